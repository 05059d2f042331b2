-- Disk: what of the past is kept, what lies on disk for whom, and how much room there is.

-- From then on it is neither rolled back to nor deployed again: its image and source are not kept for it.
alter table deploy add column forgotten timestamptz;
create index deploy_kept on deploy (app_id, number) where forgotten is null;
-- Who names an object.
create index deploy_by_image on deploy (image);
create index deploy_by_source on deploy (source);
create index deploy_by_bundle on deploy (bundle);

-- The whole of an app's repository as of deploy `bundle_number`; the bundles of later deploys have what came after.
alter table app add column bundle text;
alter table app add column bundle_number bigint not null default 0;
create index app_by_bundle on app (bundle);

-- Since when each incarnation is the truth: an older one that came back does not know what was stored meanwhile.
create table truth (
    incarnation bigint primary key,
    since timestamptz not null default now()
);

-- What an app has on disk, as it was last measured where it lies.
create table disk_usage (
    app_id bigint not null references app,
    kind text not null constraint disk_usage_kind
        check (kind in ('image', 'source', 'bundle', 'repository', 'cache', 'log')),
    bytes bigint not null constraint disk_usage_bytes check (bytes >= 0),
    at timestamptz not null default now(),
    primary key (app_id, kind)
);

-- The disk that a server's data lies on, as it last said; 0: it did not say.
alter table server add column disk_bytes bigint not null default 0;
alter table server add column disk_free_bytes bigint not null default 0;
alter table server add column disk_reserve_bytes bigint not null default 0;

grant select, insert on truth to berth_control;
grant select on truth to berth_receiver;
grant select, insert, update, delete on disk_usage to berth_control;
grant select, insert, update on disk_usage to berth_receiver;
grant select on disk_usage to berth_web;
grant update (bundle, bundle_number) on app to berth_receiver;
grant select (disk_bytes, disk_free_bytes, disk_reserve_bytes) on server to berth_receiver;
