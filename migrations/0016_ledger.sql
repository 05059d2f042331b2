-- The ledger's engine: how far it is, what it must look at again, and what derived meters are derived from.

-- A posting knows what all of its chain costs, so that the next one needs no sum of two million rows. None of
-- its units where a version of the price plan was decided on, and what was posted is of a shorter segment than it was.
alter table posting drop constraint posting_is_of_something;
alter table posting add constraint posting_is_of_something check (units <> 0 or amount_micros <> 0);
alter table posting add column owed_after_micros bigint not null;

-- How far: whole hours.
create table billing (
    only_one boolean primary key default true constraint billing_is_one check (only_one),
    -- What was used before costs nothing.
    begun timestamptz not null default now(),
    -- Derived readings are here of all hours before.
    derived timestamptz not null default date_trunc('hour', now(), 'UTC'),
    -- Readings of all hours before are posted.
    posted timestamptz not null default date_trunc('hour', now(), 'UTC')
);
insert into billing default values;

-- Readings that came, or grew, well after their hour was over, until the engine has looked at them.
create table reading_late (
    id bigint generated always as identity primary key,
    life text not null,
    app_id bigint not null,
    meter text not null,
    hour timestamptz not null
);

-- What lay on disk for an app since when, of the kinds that are charged for: not caches, which are Berth's own choice.
-- `byte_micros`: bytes × microseconds until then, so that a sum up to any moment is one row and one product.
create table disk_size (
    app_id bigint not null references app,
    kind text not null,
    since timestamptz not null,
    bytes bigint not null,
    byte_micros numeric not null,
    primary key (app_id, kind, since)
);
create function micros(of interval) returns bigint language sql immutable parallel safe
    return (extract(epoch from of) * 1000000)::bigint;
-- Whoever measures needs no right to write it.
create function disk_size_is_kept() returns trigger language plpgsql security definer
set search_path = pg_catalog, public, pg_temp as $$
declare
    of_app bigint := coalesce(new.app_id, old.app_id);
    of_kind text := coalesce(new.kind, old.kind);
    is_now bigint := coalesce(new.bytes, 0);
    since_now timestamptz := clock_timestamp();
    before disk_size;
begin
    if of_kind = 'cache' then
        return null;
    end if;
    select * into before from disk_size where app_id = of_app and kind = of_kind order by since desc limit 1;
    if before.bytes is not distinct from is_now then
        return null;
    end if;
    -- A clock that was set back takes nothing away.
    since_now := greatest(since_now, before.since + interval '1 microsecond');
    insert into disk_size (app_id, kind, since, bytes, byte_micros) values (of_app, of_kind, since_now, is_now,
        coalesce(before.byte_micros + before.bytes::numeric * public.micros(since_now - before.since), 0));
    return null;
end
$$;
create trigger disk_size_is_kept after insert or update of bytes or delete on disk_usage
    for each row execute function disk_size_is_kept();
insert into disk_size (app_id, kind, since, bytes, byte_micros)
    select app_id, kind, now(), bytes, 0 from disk_usage where kind <> 'cache';

-- When nothing was heard of a server: nobody knows whether its instances ran, so their memory costs nothing.
create table server_silent (
    server_id bigint not null references server,
    since timestamptz not null,
    until timestamptz not null,
    primary key (server_id, since)
);
create function server_was_silent() returns trigger language plpgsql security definer
set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into server_silent (server_id, since, until) values (new.id, old.seen, new.seen) on conflict do nothing;
    return null;
end
$$;
create trigger server_was_silent after update of seen on server
    for each row when (new.seen > old.seen + interval '2 minutes') execute function server_was_silent();

create index instance_until on instance (app_id, (coalesce(ended, 'infinity'::timestamptz)));
create index deploy_step_built on deploy_step (ended) where step = 'build';

-- The values of derived meters at a moment: of what lived after `after`, of one customer or (null) of all.
--
-- memory: what an instance reserves, from when it is healthy, its release is switched on, and nothing of the same slot
-- that was there before is left (what overlaps is our own doing), until it drains or ends; also while it is started
-- again after a crash, since its place is kept. The process `release`: from its start to its end.
-- builds: the last attempt, when it has ended, whoever's fault; our own, and those whose builder was lost, are not charged.
-- storage: sizes × time, until the app is deleted.
create function derived(after timestamptz, at timestamptz, of_customer bigint)
returns table (life text, app_id bigint, meter text, value bigint) language sql stable as $$
    with theirs as (
        select id, deleted from app where of_customer is null or customer_id = of_customer
    ), lived as (
        select i.id, i.app_id, i.process, i.index, i.release_number, i.server_id, i.memory_bytes, i.created,
               least(i.drain_since, i.ended, at) as until,
               case when i.process = 'release' then i.created else i.healthy end as began
        from theirs join instance i on i.app_id = theirs.id
        where coalesce(i.ended, 'infinity'::timestamptz) > after
          and case when i.process = 'release' then i.created else i.healthy end < at
    ), counted as (
        select l.id, l.app_id, l.server_id, l.memory_bytes, l.until,
               greatest(l.began, b.begun, switched.at, before.until) as since
        from lived l cross join billing b
        left join lateral (
            select s.started as at from deploy d join deploy_step s on s.deploy_id = d.id and s.step = 'switch'
            where d.app_id = l.app_id and d.number = l.release_number and l.process <> 'release'
        ) switched on true
        left join lateral (
            select max(least(coalesce(p.drain_since, 'infinity'::timestamptz), coalesce(p.ended, 'infinity'::timestamptz)))
                   as until
            from instance p
            where p.app_id = l.app_id and coalesce(p.ended, 'infinity'::timestamptz) > l.created and p.id < l.id
              and p.process = l.process and p.index = l.index and p.process <> 'release' and p.healthy is not null
              and exists (select from deploy d join deploy_step s on s.deploy_id = d.id and s.step = 'switch'
                          where d.app_id = p.app_id and d.number = p.release_number)
        ) before on true
        where switched.at is not null or l.process = 'release'
    ), awake as (
        select c.id, c.app_id, c.memory_bytes,
               micros(c.until - c.since) - coalesce((
                   select sum(micros(least(g.until, c.until) - greatest(g.since, c.since)))
                   from (select since, until from server_silent where server_id = c.server_id
                         union all select seen, 'infinity' from server where id = c.server_id
                             and seen < clock_timestamp() - interval '2 minutes') g
                   where g.since < c.until and g.until > c.since), 0) as micros
        from counted c where c.since < c.until
    )
    select 'instance/' || id, app_id, 'memory', div(memory_bytes::numeric * micros, 1024000000)::bigint
        from awake where micros > 0
    union all
    select 'build/' || d.id, d.app_id, 'builds', micros(s.ended - s.started)
        from deploy_step s join deploy d on d.id = s.deploy_id join theirs on theirs.id = d.app_id cross join billing b
        where s.step = 'build' and s.ended > greatest(after, b.begun) and s.ended <= at and s.ended > s.started
          and d.user_id is not null and coalesce(d.reason, '') not like 'its builder was lost %'
    union all
    select 'storage/' || theirs.id, theirs.id, 'storage', div(sum(s.byte_micros
            + s.bytes::numeric * micros(least(at, theirs.deleted) - s.since)), 1024000000)::bigint
        from theirs cross join unnest(array['image', 'source', 'bundle', 'repository', 'log']) as kinds(kind)
        join lateral (
            select * from disk_size z where z.app_id = theirs.id and z.kind = kinds.kind and z.since < least(at, theirs.deleted)
            order by z.since desc limit 1
        ) s on true
        where theirs.deleted is null or theirs.deleted > after
        group by theirs.id
$$;

grant select, update (derived, posted) on billing to berth_control;
grant select on billing to berth_web, berth_receiver;
grant select, insert, delete on reading_late to berth_control;
grant select, delete on disk_size to berth_control;
grant select on server_silent to berth_control;
-- A page says what runs now.
grant select on disk_size, server_silent to berth_web;
