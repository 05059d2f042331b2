-- Config vars. Each change makes a whole new set of them, so that a release names the one it runs with and a
-- rollback brings it back. What is secret is sealed: web writes it, control alone opens it.

create table config (
    app_id bigint not null references app,
    -- Counts from 1; an app without any config has version 0, which has no row.
    version bigint not null,
    user_id bigint references users on delete set null,
    created timestamptz not null default now(),
    primary key (app_id, version)
);

create table config_var (
    app_id bigint not null,
    version bigint not null,
    name text not null constraint config_var_name check (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,127}$'),
    -- Shown again; null: secret.
    plain text,
    sealed bytea,
    bytes integer not null,
    -- Who set it, and when: kept while other variables change.
    user_id bigint references users on delete set null,
    since timestamptz not null default now(),
    primary key (app_id, version, name),
    foreign key (app_id, version) references config,
    constraint config_var_is_plain_or_sealed check ((plain is null) <> (sealed is null))
);

-- What the next release runs with.
alter table app add column config_version bigint not null default 0;
alter table release add column config_version bigint not null default 0;

alter table deploy drop constraint deploy_cause;
alter table deploy add constraint deploy_cause check (cause in ('push', 'restart', 'rollback', 'again', 'config'));

-- web sets a secret and cannot read it back: it copies those that stay by name, in the database.
grant select, insert on config to berth_web;
grant select (app_id, version, name, plain, bytes, user_id, since), insert on config_var to berth_web;
grant update (config_version) on app to berth_web;
grant select on config_var to berth_control;

-- Copies all but one: a secret that stays is not read by who changes another.
create function config_keep(of_app bigint, of_version bigint, as_version bigint, but text[]) returns void
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    insert into config_var (app_id, version, name, plain, sealed, bytes, user_id, since)
    select app_id, as_version, name, plain, sealed, bytes, user_id, since
    from config_var where app_id = of_app and version = of_version and name <> all (but)
$$;
revoke execute on function config_keep from public;
grant execute on function config_keep to berth_web;
