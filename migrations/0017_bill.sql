-- What a person is shown of money: postings added up, since a page of a customer with 500 apps does not read the two
-- million of their month; and who decides on prices.

-- Both are sums of what was posted, and nothing else: the ledger never reads them.
create table posted_app (
    customer_id bigint not null references customer,
    month date not null,
    app_id bigint not null references app,
    meter text not null,
    plan_id bigint not null references price_plan,
    units bigint not null,
    primary key (customer_id, month, app_id, meter, plan_id)
);
create table posted_day (
    customer_id bigint not null references customer,
    -- When it began (UTC).
    day timestamptz not null,
    meter text not null,
    units bigint not null,
    amount_micros bigint not null,
    primary key (customer_id, day, meter)
);
-- Whoever posts needs no right to change them by hand.
create function posting_is_added_up() returns trigger language plpgsql security definer set search_path = public as $$
begin
    insert into posted_app (customer_id, month, app_id, meter, plan_id, units)
        select customer_id, month, app_id, meter, plan_id, sum(units) from posted
        group by customer_id, month, app_id, meter, plan_id order by 1, 2, 3, 4, 5
        on conflict (customer_id, month, app_id, meter, plan_id)
        do update set units = posted_app.units + excluded.units;
    insert into posted_day (customer_id, day, meter, units, amount_micros)
        select customer_id, date_trunc('day', hour, 'UTC'), meter, sum(units), sum(amount_micros) from posted
        group by 1, 2, 3 order by 1, 2, 3
        on conflict (customer_id, day, meter)
        do update set units = posted_day.units + excluded.units,
                      amount_micros = posted_day.amount_micros + excluded.amount_micros;
    return null;
end
$$;
create trigger posting_is_added_up after insert on posting referencing new table as posted
    for each statement execute function posting_is_added_up();
grant select on posted_app, posted_day to berth_web;
grant select on posted_app to berth_receiver;

-- Prices never apply to what was used already: whoever decides on them by a page adds versions to come, and takes back
-- only such.
alter table price_plan enable row level security;
create policy price_plan_is_read on price_plan for select using (true);
create policy price_plan_is_ahead on price_plan for insert to berth_web with check (since > now());
create policy price_plan_is_taken_back on price_plan for delete to berth_web using (since > now());
grant delete on price_plan to berth_web;
