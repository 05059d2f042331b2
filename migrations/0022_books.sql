-- What the ledger relies on is the database's word, whoever writes.

-- An app is one customer's for life: what it used can be posted to nobody else.
alter table app add constraint app_of_customer unique (id, customer_id);
alter table posting drop constraint posting_app_id_fkey;
alter table posting add constraint posting_app_of_customer
    foreign key (app_id, customer_id) references app (id, customer_id);

-- What these look at is never a table that their caller made for the purpose.
alter function posting_balances() set search_path = pg_catalog, public, pg_temp;
alter function posting_is_added_up() set search_path = pg_catalog, public, pg_temp;

-- When a version was decided on is nobody's to say.
revoke insert on price_plan from berth_web;
grant insert (currency, since, prices, created_by) on price_plan to berth_web;
