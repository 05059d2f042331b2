-- What a person asks of an app besides a push: restart, stop and start, roll back, deploy again, cancel,
-- scale, delete.

-- How many of a process type the customer wants; what is not named here runs as its release says.
alter table app add column formation jsonb not null default '{}';

-- When the logs of a deleted app were deleted.
alter table app add column logs_deleted timestamptz;

alter table deploy drop constraint deploy_cause;
alter table deploy add constraint deploy_cause check (cause in ('push', 'restart', 'rollback', 'again'));
-- The deploy, within the app, whose commit this one runs again; null: a push has its own.
alter table deploy add column origin bigint;

grant update (formation, deploy_next) on app to berth_web;
-- Its state is not among them: a new one is queued.
grant insert (app_id, number, cause, user_id, commit_id, commit_subject, branch, commit_before, source, image, origin)
    on deploy to berth_web;

-- Cancels what waits, is built or starts, one or all of an app: the one change of a deploy's state that a door
-- may make. As a function, so that web can set no other (`live`, say) on its own.
create function deploy_cancel(of_app bigint, of_number bigint, why text) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    canceled bigint[];
begin
    with done as (
        update deploy set state = 'canceled', state_since = clock_timestamp(), ended = clock_timestamp(), reason = why
        where app_id = of_app and number = coalesce(of_number, number) and state in ('queued', 'building', 'starting')
        returning id
    )
    select coalesce(array_agg(id), '{}') into canceled from done;
    update deploy_step set ended = clock_timestamp(), outcome = 'failed', detail = why
    where deploy_id = any(canceled) and ended is null;
    return cardinality(canceled);
end
$$;
revoke execute on function deploy_cancel from public;
grant execute on function deploy_cancel to berth_web;
