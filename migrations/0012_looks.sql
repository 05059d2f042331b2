-- The coordinator looks every second at what is open, lives, or failed lately: that must not take longer with all
-- that there ever was.
create index deploy_step_open on deploy_step (deploy_id) where ended is null;
create index instance_failed on instance (ended) where state = 'failed';
create index instance_alive_by_app on instance (app_id) where ended is null;

-- Nobody asks by these.
drop index event_by_user;
revoke select on branch from berth_control;
revoke select (disk_bytes, disk_free_bytes, disk_reserve_bytes) on server from berth_receiver;
