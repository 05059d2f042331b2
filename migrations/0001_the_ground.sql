-- The first tables: who signs in, what they own, what was deployed, what runs, what was metered.
--
-- Customer, app, server and usage rows carry a region from the beginning (one until there are two).
-- A state is text with a named check; `domain` has the same words as an enum. Invariants are named
-- constraints, which `store` turns into errors by name. Grants stand at the end: nothing is granted
-- that a role does not need (SECURITY 'Processes and keys').

create table installation (
    only_one boolean primary key default true constraint installation_is_one check (only_one),
    -- Which truth: grows at every restore.
    incarnation bigint not null default 1
);
insert into installation default values;

-- One leader at a time: taken by compare-and-set on the database's clock.
create table leader (
    only_one boolean primary key default true constraint leader_is_one check (only_one),
    epoch bigint not null default 0,
    holder text,
    until timestamptz not null default '-infinity'
);
insert into leader default values;

create table users (
    id bigint generated always as identity primary key,
    email text not null,
    name text not null constraint users_name_length check (char_length(name) between 1 and 100),
    -- argon2id; null: signs in by link only.
    password_hash text,
    operator boolean not null default false,
    -- Sessions of before are void: sign out everywhere.
    sessions_since timestamptz not null default now(),
    created timestamptz not null default now()
);
create unique index users_email_once on users (lower(email));

create table customer (
    id bigint generated always as identity primary key,
    name text not null,
    region text not null default 'main',
    apps_max integer not null default 10,
    memory_bytes_max bigint not null default 2147483648,
    created timestamptz not null default now()
);

create table membership (
    user_id bigint not null references users on delete cascade,
    customer_id bigint not null references customer,
    created timestamptz not null default now(),
    primary key (user_id, customer_id)
);
create index membership_by_customer on membership (customer_id);

create table ssh_key (
    id bigint generated always as identity primary key,
    user_id bigint not null references users on delete cascade,
    name text not null constraint ssh_key_name_length check (char_length(name) between 1 and 100),
    kind text not null,
    -- `SHA256:...` as OpenSSH prints it.
    fingerprint text not null constraint ssh_key_fingerprint_once unique,
    public text not null,
    created timestamptz not null default now(),
    last_used timestamptz
);
create index ssh_key_by_user on ssh_key (user_id);

-- One-time links to sign in; only their SHA-256 is here.
create table sign_in_link (
    token_hash bytea primary key,
    user_id bigint not null references users on delete cascade,
    expires timestamptz not null,
    used timestamptz
);

create table server (
    id bigint generated always as identity primary key,
    name text not null constraint server_name_once unique,
    region text not null default 'main',
    boot_id text,
    cores integer not null default 0,
    memory_bytes bigint not null default 0,
    seen timestamptz
);

create table app (
    -- Never given twice: an app's UIDs come from it (`wire::Uids::of`).
    id bigint generated always as identity primary key,
    customer_id bigint not null references customer,
    name text not null,
    region text not null default 'main',
    stack text not null default 'host',
    state text not null default 'running' constraint app_state check (state in ('running', 'stopped', 'deleted')),
    deploy_branch text not null default 'main',
    -- The next deploy gets this number.
    deploy_next bigint not null default 1,
    -- What serves: a deploy that went live.
    release_number bigint,
    created timestamptz not null default now(),
    deleted timestamptz
);
create unique index app_name_once on app (name) where state <> 'deleted';
create index app_by_customer on app (customer_id);

create table hostname (
    name text primary key,
    app_id bigint not null references app,
    created timestamptz not null default now()
);
create index hostname_by_app on hostname (app_id);

create table image (
    hash text primary key,
    bytes bigint not null,
    manifest jsonb not null,
    created timestamptz not null default now()
);

create table deploy (
    id bigint generated always as identity primary key,
    app_id bigint not null references app,
    number bigint not null,
    cause text not null constraint deploy_cause check (cause in ('push')),
    -- Who asked; null: Berth itself.
    user_id bigint references users on delete set null,
    state text not null default 'queued' constraint deploy_state
        check (state in ('queued', 'building', 'starting', 'switching', 'live', 'failed', 'canceled')),
    commit_id text not null,
    commit_subject text not null default '',
    branch text not null,
    -- Where the branch was when this was pushed; null: it did not exist.
    commit_before text,
    source text not null,
    image text references image,
    reason text,
    hint text,
    -- When the present state began: what timeouts are counted from.
    state_since timestamptz not null default now(),
    created timestamptz not null default now(),
    ended timestamptz,
    -- The builder, while building, and its sandbox's address.
    server_id bigint references server,
    build_address inet,
    constraint deploy_number_once unique (app_id, number)
);
create index deploy_open on deploy (app_id) where state not in ('live', 'failed', 'canceled');

-- A step is claimed by (holder, holder_until, attempt); an effect of an older attempt is refused.
create table deploy_step (
    deploy_id bigint not null references deploy,
    step text not null constraint deploy_step_word check (step in ('build', 'start', 'switch', 'branch', 'drain')),
    attempt integer not null default 1,
    holder text,
    holder_until timestamptz,
    started timestamptz not null default now(),
    ended timestamptz,
    outcome text constraint deploy_step_outcome check (outcome in ('done', 'failed')),
    -- In plain words, for instance why the branch was not moved.
    detail text,
    primary key (deploy_id, step)
);

-- Image + formation, numbered by the deploy that made it.
create table release (
    app_id bigint not null references app,
    number bigint not null,
    image text not null references image,
    -- Process type → {count, memory_bytes, cpu_millis}.
    formation jsonb not null,
    created timestamptz not null default now(),
    primary key (app_id, number)
);

-- One running process of a release: one life of its address (the generation).
create table instance (
    id bigint generated always as identity primary key,
    app_id bigint not null references app,
    release_number bigint not null,
    process text not null,
    index integer not null,
    server_id bigint not null references server,
    address inet not null,
    wanted text not null default 'run' constraint instance_wanted check (wanted in ('run', 'drain', 'stop')),
    state text not null default 'placed' constraint instance_state
        check (state in ('placed', 'starting', 'healthy', 'unhealthy', 'crashed', 'failed', 'stopped')),
    reason text,
    hint text,
    restarts integer not null default 0,
    memory_bytes bigint not null,
    created timestamptz not null default now(),
    healthy timestamptz,
    drain_since timestamptz,
    ended timestamptz,
    -- No balancer can still hold its address: another instance may have it.
    address_free boolean not null default false,
    foreign key (app_id, release_number) references release
);
create index instance_alive on instance (server_id) where ended is null;
create index instance_by_app on instance (app_id);
create unique index instance_address_once on instance (address) where not address_free;

-- The coordinator's decisions, in plain words.
create table decision (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    epoch bigint not null,
    app_id bigint references app,
    what text not null,
    reason text not null
);
create index decision_by_app on decision (app_id, id);

-- Every command of a person: who, as what, from where, on what, before and after.
create table event (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    -- Ids only: erasing a user empties one table.
    user_id bigint,
    customer_id bigint,
    door text not null,
    origin inet,
    verb text not null,
    subject text not null,
    before jsonb,
    after jsonb
);
create index event_by_customer on event (customer_id, id);

-- Readings for money: the highest value of each life in each hour (UTC).
create table reading (
    life text not null,
    app_id bigint not null,
    meter text not null constraint reading_meter check (meter in ('cpu', 'requests')),
    hour timestamptz not null,
    value bigint not null constraint reading_value_counts_up check (value >= 0),
    at timestamptz not null,
    region text not null default 'main',
    primary key (life, app_id, meter, hour)
);
create index reading_by_app on reading (app_id, meter, hour);

-- A wake-up carries no data: who listens looks again. NOTIFY takes a lock at commit, so it is for
-- control changes only, never for readings. For each row, since a statement that changed none wakes
-- nobody (equal notifications of a transaction are sent once).
create function wake() returns trigger language plpgsql as $$
begin
    perform pg_notify('control', '');
    return null;
end
$$;
create trigger app_wakes after insert or update on app for each row execute function wake();
create trigger deploy_wakes after insert or update on deploy for each row execute function wake();
create trigger deploy_step_wakes after insert or update on deploy_step for each row execute function wake();
create trigger instance_wakes after insert or update on instance for each row execute function wake();

-- web: its customers' pages and the commands asked on them. Password hashes are its alone.
grant select on installation, customer, membership, users, ssh_key, sign_in_link, app, hostname, image, deploy,
    deploy_step, release, instance, decision, server, reading to berth_web;
grant insert on users, customer, membership, ssh_key, app, hostname, event to berth_web;
grant update (password_hash, name, sessions_since) on users to berth_web;
grant update (used) on sign_in_link to berth_web;
grant update (state, deleted) on app to berth_web;
-- A name that comes back to its former customer.
grant update (app_id) on hostname to berth_web;
grant delete on ssh_key to berth_web;

-- receiver: whose key it is, which app is pushed to, and the deploy it asks for.
grant select (id, email, name, operator, created) on users to berth_receiver;
grant select (id, user_id, fingerprint) on ssh_key to berth_receiver;
grant select on installation, customer, membership, app, hostname, deploy, deploy_step, release, image, instance
    to berth_receiver;
grant select (id, name) on server to berth_receiver;
grant update (last_used) on ssh_key to berth_receiver;
grant update (deploy_next) on app to berth_receiver;
grant insert on deploy, deploy_step, event to berth_receiver;
grant update (attempt, holder, holder_until, ended, outcome, detail) on deploy_step to berth_receiver;

-- control: the coordinator and the statistics.
grant select on installation, leader, customer, app, hostname, image, deploy, deploy_step, release, instance, decision,
    server, reading to berth_control;
grant update on leader, app, deploy, deploy_step, instance, server to berth_control;
grant insert on image, release, instance, deploy_step, decision, server, reading to berth_control;
grant update (value, at) on reading to berth_control;
