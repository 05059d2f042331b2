-- What the page of a deploy and the operator's page of servers say besides.

-- The key that a push was made with; null: it was no push, or the key is gone.
alter table deploy add column key_id bigint references ssh_key on delete set null;
create index deploy_by_key on deploy (key_id) where key_id is not null;
-- Those of today.
create index deploy_by_created on deploy (created);

-- Of the last quarter of a minute that was seen whole; null: nobody saw it lately. CPU in thousandths of a core, in
-- which apps kept the server busy; requests that its balancers answered, and those of them that no app did.
alter table server add column cpu_millis integer;
alter table server add column requests bigint;
alter table server add column unanswered bigint;
