-- The truth can come back older: a copy of this database from before (a backup, a fail-over that lost its end)
-- takes the place of what runners and balancers already follow. What was handed out is written down here first,
-- so that whoever leads next can tell; and while it is so, nothing is numbered from it until the operator has
-- looked (`berth restore accept`).

-- The last revision that was handed out in each of the last epochs.
create table revision (
    epoch bigint primary key,
    counter bigint not null
);

alter table installation
    -- Since when it is known that this truth is older than what runs; null: it is not.
    add column older_since timestamptz,
    -- What runs was told by this incarnation, in this epoch.
    add column older_incarnation bigint not null default 0,
    add column older_epoch bigint not null default 0;

-- Names no other app or deploy than its own: a number given twice would be one for two.
create function truth_is_ours() returns trigger language plpgsql as $$
begin
    if exists (select from installation where older_since is not null) then
        raise exception 'the database came back older than what runs'
            using errcode = 'check_violation', constraint = 'truth_is_older', table = tg_table_name;
    end if;
    return new;
end
$$;
create trigger app_needs_truth before insert or update of state, formation, deploy_next on app
    for each row execute function truth_is_ours();
create trigger deploy_needs_truth before insert on deploy for each row execute function truth_is_ours();
create trigger instance_needs_truth before insert on instance for each row execute function truth_is_ours();
create trigger installation_wakes after update on installation for each row execute function wake();

grant update (older_since, older_incarnation, older_epoch) on installation to berth_control;
grant select, insert, update, delete on revision to berth_control;
