-- Money: what meters cost and since when, what was posted for their usage, and what counters said at their end.
-- Amounts are micro-units of a currency; periods are UTC months; nothing here names a person.

alter table reading drop constraint reading_meter;
alter table reading add constraint reading_meter
    check (meter in ('cpu', 'memory', 'requests', 'bytes_out', 'storage', 'builds'));

alter table customer add column currency text not null default 'EUR';

-- The price plan: a version holds from `since` until the next of its currency. Since a posting is of one hour and one
-- price, a version begins with a full hour, and never in what is over.
create table price_plan (
    id bigint generated always as identity primary key,
    currency text not null,
    since timestamptz not null constraint price_plan_full_hour check (date_trunc('hour', since, 'UTC') = since),
    -- Meter → {included, tiers: [{up_to, micros}]}: `domain::Prices`.
    prices jsonb not null,
    created timestamptz not null default now(),
    -- Null: Berth's own, with which an installation begins.
    created_by bigint,
    constraint price_plan_once unique (currency, since)
);
insert into price_plan (currency, since, prices) values ('EUR', '2000-01-01 00:00+00', '{
    "cpu": {"included": 0, "tiers": [{"up_to": null, "micros": 36000}]},
    "memory": {"included": 0, "tiers": [{"up_to": null, "micros": 6000}]},
    "requests": {"included": 0, "tiers": [{"up_to": null, "micros": 100000}]},
    "bytes_out": {"included": 0, "tiers": [{"up_to": null, "micros": 20000}]},
    "storage": {"included": 0, "tiers": [{"up_to": null, "micros": 140}]},
    "builds": {"included": 0, "tiers": [{"up_to": null, "micros": 5000}]}
}');

-- What the usage of one meter of one app in one hour costs: rate(used_after) − rate(used_after − units), both of all that
-- the customer used of the meter in the segment (the part of a month that one version of the plan holds in). What is
-- learned later of an hour is a further posting; units are negative where they turned out to be another hour's.
create table posting (
    id bigint generated always as identity primary key,
    customer_id bigint not null references customer,
    app_id bigint not null references app,
    meter text not null,
    plan_id bigint not null references price_plan,
    -- The first day of the UTC month.
    month date not null,
    hour timestamptz not null,
    -- Counts from 1 within the segment of (customer, meter): two that rated after the same posting cannot both be made.
    place bigint not null,
    units bigint not null constraint posting_is_of_something check (units <> 0),
    used_after bigint not null constraint posting_used check (used_after >= 0),
    amount_micros bigint not null,
    made timestamptz not null default now(),
    constraint posting_place_once unique (customer_id, month, plan_id, meter, place)
);
create index posting_by_app on posting (app_id, hour);
create index posting_by_hour on posting (customer_id, hour);

-- Its two lines, which add up to zero; a posting that costs nothing has none. Accounts: `customer/17`, `revenue/cpu`.
create table ledger_entry (
    posting_id bigint not null references posting,
    account text not null,
    amount_micros bigint not null constraint ledger_entry_is_of_something check (amount_micros <> 0),
    primary key (posting_id, account)
);
create function posting_balances() returns trigger language plpgsql as $$
declare
    this bigint := coalesce(to_jsonb(new) ->> 'posting_id', to_jsonb(new) ->> 'id')::bigint;
    owed bigint;
    total numeric;
begin
    select coalesce(sum(amount_micros), 0), coalesce(max(amount_micros) filter (where account like 'customer/%'), 0)
        into total, owed from ledger_entry where posting_id = this;
    if total <> 0 or owed is distinct from (select amount_micros from posting where id = this) then
        raise exception 'posting % does not balance', this using constraint = 'posting_balances', errcode = '23514';
    end if;
    return null;
end
$$;
create constraint trigger posting_balances after insert on posting deferrable initially deferred
    for each row execute function posting_balances();
create constraint trigger posting_balances after insert on ledger_entry deferrable initially deferred
    for each row execute function posting_balances();

-- What the counters of a life said when its last process was gone, apart from the readings: what these are held against.
create table life_end (
    life text not null,
    app_id bigint not null,
    meter text not null,
    value bigint not null,
    at timestamptz not null,
    primary key (life, meter)
);

-- Nobody may change or delete what was posted.
grant select, insert on posting, ledger_entry, life_end to berth_control;
grant select on posting, ledger_entry, life_end to berth_web;
grant select on posting to berth_receiver;
grant select on price_plan to berth_web, berth_control, berth_receiver;
grant insert on price_plan to berth_web;
