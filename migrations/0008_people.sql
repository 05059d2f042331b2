-- People: who may use Berth, how they are written to, what each customer may use, who changed what.

-- What a customer may use: small until the operator raises it.
alter table customer
    add column builds_max integer not null default 1,
    add column build_seconds_max integer not null default 600,
    add column disk_bytes_max bigint not null default 5368709120,
    -- With sign-up by approval, a new customer waits for the operator.
    add column approval text not null default 'approved' constraint customer_approval
        check (approval in ('waiting', 'approved', 'refused')),
    add constraint customer_limits check (apps_max between 0 and 100000 and memory_bytes_max >= 0 and builds_max between 0 and 1000
        and build_seconds_max between 60 and 86400 and disk_bytes_max >= 0);

-- When the address was shown to be theirs; null: not yet.
alter table users add column confirmed timestamptz;
update users set confirmed = created;

-- Letters: written in the transaction of what they tell, sent by control alone.
create table mail (
    id bigint generated always as identity primary key,
    -- To whom; null when it is no user.
    user_id bigint references users on delete cascade,
    address text not null,
    kind text not null,
    subject text not null constraint mail_subject_is_a_line check (subject !~ '[[:cntrl:]]'),
    -- Forgotten once it is sent.
    text text,
    -- The sender puts a fresh one-time link into the text, so that no link ever lies here.
    link text constraint mail_link_kind check (link in ('confirm', 'reset')),
    state text not null default 'waiting' constraint mail_state check (state in ('waiting', 'sent', 'failed')),
    tries integer not null default 0,
    next_try timestamptz not null default now(),
    -- Since when it is tried: it is given up some days later.
    tried_since timestamptz not null default now(),
    holder text,
    holder_until timestamptz,
    error text,
    created timestamptz not null default now(),
    ended timestamptz
);
create index mail_waiting on mail (next_try) where state = 'waiting';
create index mail_by_user on mail (user_id, created);
create trigger mail_wakes after insert or update of state on mail for each row when (new.state = 'waiting')
    execute function wake();

-- One-time links that were mailed; only their SHA-256 is here. Made by control alone: web cannot make one for
-- an account that is not its visitor's.
create table mail_link (
    token_hash bytea primary key,
    user_id bigint not null references users on delete cascade,
    kind text not null constraint mail_link_word check (kind in ('confirm', 'reset')),
    expires timestamptz not null,
    used timestamptz
);
create index mail_link_by_user on mail_link (user_id);

-- What an app's events are about, also when another app has its name later.
alter table event add column app_id bigint references app;
create index event_by_app on event (app_id, id) where app_id is not null;
create index event_by_user on event (user_id, id);

-- What its apps use, as it last said.
alter table server add column memory_used_bytes bigint not null default 0;

grant insert (user_id, address, kind, subject, text, link) on mail to berth_web;
-- Not the text.
grant select (id, user_id, address, kind, subject, state, tries, next_try, error, created, ended) on mail to berth_web;
-- The operator tries one again.
grant update (state, next_try, tried_since, ended) on mail to berth_web;
grant select, update (used) on mail_link to berth_web;
grant update (confirmed) on users to berth_web;
grant update (apps_max, memory_bytes_max, builds_max, build_seconds_max, disk_bytes_max, approval) on customer to berth_web;
grant select on event to berth_web;
grant select (confirmed) on users to berth_receiver;

grant select, update (state, tries, next_try, holder, holder_until, text, error, ended), delete on mail to berth_control;
grant insert, delete, select on mail_link to berth_control;
