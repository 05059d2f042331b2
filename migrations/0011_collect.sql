-- What is deleted is deleted by what the rows say: only while the leader has lately held them against what runs. A
-- database that came back older still has the time of its copy here, and nothing is deleted by it.
alter table truth add column checked timestamptz not null default '-infinity';
grant update (checked) on truth to berth_control;
