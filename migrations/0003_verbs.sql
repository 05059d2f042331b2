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
grant insert on deploy to berth_web;
-- To cancel one.
grant update (state, state_since, ended, reason, hint) on deploy to berth_web;
grant update (ended, outcome, detail) on deploy_step to berth_web;
