-- What an app runs: how big each process type is, a process that runs once before a release is switched on,
-- branches that are kept and not deployed.

-- Bytes of each process type, where its customer chose; else the app's `berth.toml` says, or Berth.
alter table app add column memory jsonb not null default '{}';

-- The words of `config vars` too. `resize`: what serves, with other sizes.
alter table deploy drop constraint deploy_cause;
alter table deploy add constraint deploy_cause
    check (cause in ('push', 'restart', 'rollback', 'again', 'config', 'resize'));

-- `releasing`: the release's process `release` runs; its instances are started when it has ended well.
alter table deploy drop constraint deploy_state;
alter table deploy add constraint deploy_state
    check (state in ('queued', 'building', 'releasing', 'starting', 'switching', 'live', 'failed', 'canceled'));
alter table deploy_step drop constraint deploy_step_word;
alter table deploy_step add constraint deploy_step_word
    check (step in ('build', 'release', 'start', 'switch', 'branch', 'drain'));
-- `done`: it ran once, and ended with code 0.
alter table instance drop constraint instance_state;
alter table instance add constraint instance_state
    check (state in ('placed', 'starting', 'healthy', 'unhealthy', 'crashed', 'failed', 'stopped', 'done'));

-- As before; what is being released can be canceled too.
create or replace function deploy_cancel(of_app bigint, of_number bigint, why text) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    canceled bigint[];
begin
    with done as (
        update deploy set state = 'canceled', state_since = clock_timestamp(), ended = clock_timestamp(), reason = why
        where app_id = of_app and number = coalesce(of_number, number)
          and state in ('queued', 'building', 'releasing', 'starting')
        returning id
    )
    select coalesce(array_agg(id), '{}') into canceled from done;
    update deploy_step set ended = clock_timestamp(), outcome = 'failed', detail = why
    where deploy_id = any(canceled) and ended is null;
    return cardinality(canceled);
end
$$;

-- Branches that were pushed and are not deployed. A bundle has what the deploys' bundles lack, never what another
-- branch's has; null: they lack nothing.
create table branch (
    app_id bigint not null references app,
    name text not null,
    commit_id text not null,
    bundle text,
    pushed timestamptz not null default now(),
    primary key (app_id, name)
);
create index branch_by_bundle on branch (bundle);

grant update (memory) on app to berth_web;
-- The first push decides between main and master.
grant update (deploy_branch) on app to berth_receiver;
grant select, insert, update, delete on branch to berth_receiver;
grant select on branch to berth_web, berth_control;
