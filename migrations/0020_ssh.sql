-- The receiver offers the verbs of the pages as commands over SSH, so it is granted what web has for these, and
-- nothing else of it: no password's hash, no sealed value, no letter, no limit, no text of a key.

grant insert (customer_id, name) on app to berth_receiver;
grant insert (name, app_id) on hostname to berth_receiver;
-- A name that comes back to its former customer.
grant update (app_id) on hostname to berth_receiver;
grant update (state, deleted, formation, memory, config_version) on app to berth_receiver;
grant execute on function deploy_cancel to berth_receiver;

-- A secret is set and cannot be read back.
grant select, insert on config to berth_receiver;
grant select (app_id, version, name, plain, bytes, user_id, since), insert on config_var to berth_receiver;
grant execute on function config_keep to berth_receiver;

grant select (name, kind, created, last_used) on ssh_key to berth_receiver;
grant insert (user_id, name, kind, fingerprint, public), delete on ssh_key to berth_receiver;

grant select on event to berth_receiver;
