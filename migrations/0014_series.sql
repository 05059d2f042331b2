-- Series: what graphs are drawn from, and never money. Samples of a quarter of a minute live a day; what they amount to is
-- kept as minutes for a month and as hours for good. Whatever arrives, and however often, is rolled up again from the
-- samples, so a roll-up that is repeated changes nothing. No wake-ups here: there are hundreds of rows a second.

-- A ring of 32 hours: an hour that is over goes as a whole, by truncating its slot (hours since 1970 mod 32). Deleting
-- row by row cost as much as inserting, and left eleven million dead rows a day to be vacuumed (1,000 apps).
create table series_raw (
    app_id bigint not null,
    -- When the quarter of a minute began.
    at timestamptz not null,
    -- Who saw it: 64 bits of a hash of the life.
    source bigint not null,
    -- A runner's; null: none of a runner.
    cpu_micros bigint,
    memory_bytes bigint,
    memory_reserved_bytes bigint,
    work_bytes_out bigint,
    -- A balancer's; null: none of a balancer. By status: below 300, 3xx, 4xx, 5xx of the app, nobody answered.
    traffic_bytes_out bigint,
    ok integer,
    redirect integer,
    client_error integer,
    server_error integer,
    unanswered integer,
    slot smallint not null,
    -- Buckets and counts, packed (`store::series::packed`).
    latency bytea,
    primary key (app_id, at, source, slot)
) partition by list (slot);
do $$
begin
    for slot in 0..31 loop
        execute format('create table series_raw_%s partition of series_raw for values in (%s)', slot, slot);
        execute format('grant truncate on series_raw_%s to berth_control', slot);
    end loop;
end
$$;
-- Waits for nobody: whoever reads it at this moment would make all others wait, too.
create function series_empty(slot integer) returns void language plpgsql set lock_timeout = '300ms' as $$
begin
    execute format('truncate series_raw_%s', slot);
end
$$;

-- Hours of apps that have samples which are not rolled up.
create table series_dirty (
    app_id bigint not null,
    hour timestamptz not null,
    since timestamptz not null,
    primary key (app_id, hour)
);
create index series_dirty_since on series_dirty (since);

-- An hour by minutes: arrays of 60. Steps are the quarter minutes that somebody saw; 0 is a gap.
create table series_minutes (
    app_id bigint not null,
    hour timestamptz not null,
    work_steps smallint[] not null,
    cpu_micros bigint[] not null,
    memory_bytes bigint[] not null,
    memory_reserved_bytes bigint[] not null,
    traffic_steps smallint[] not null,
    bytes_out bigint[] not null,
    ok integer[] not null,
    redirect integer[] not null,
    client_error integer[] not null,
    server_error integer[] not null,
    unanswered integer[] not null,
    -- By five minutes: 12.
    latency bytea[] not null,
    primary key (app_id, hour)
);
create index series_minutes_by_hour on series_minutes (hour);

create table series_hour (
    app_id bigint not null,
    hour timestamptz not null,
    work_steps integer not null,
    cpu_micros bigint not null,
    memory_bytes bigint not null,
    memory_reserved_bytes bigint not null,
    traffic_steps integer not null,
    bytes_out bigint not null,
    ok bigint not null,
    redirect bigint not null,
    client_error bigint not null,
    server_error bigint not null,
    unanswered bigint not null,
    latency bytea not null,
    primary key (app_id, hour)
);

grant select, insert on series_raw to berth_control;
grant select, insert, delete on series_dirty to berth_control;
grant select, insert, update, delete on series_minutes to berth_control;
grant select, insert, update on series_hour to berth_control;
grant select on series_raw, series_minutes, series_hour to berth_web, berth_receiver;
