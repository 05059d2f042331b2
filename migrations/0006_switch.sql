-- What was asked of an app while a deploy of it started, was switched on and drained what was before, and
-- how much of that failed: the answer to "did anybody notice?".

-- As the balancers report it, while it goes on. Cumulative counts of a balancer's life: the least that was
-- heard at the beginning, the greatest since; so what comes twice or late changes nothing.
create table deploy_traffic (
    deploy_id bigint not null references deploy on delete cascade,
    life text not null,
    requests_from bigint not null,
    requests bigint not null,
    unanswered_from bigint not null,
    unanswered bigint not null,
    errors_from bigint not null,
    errors bigint not null,
    primary key (deploy_id, life)
);

-- The sums; null: it was never switched on, or no balancer was there.
alter table deploy add column requests bigint;
-- Answered by a balancer (502, 503, 504), since no instance did.
alter table deploy add column unanswered bigint;
-- Answered by an instance with 5xx, or broken off by it.
alter table deploy add column errors bigint;

grant select, insert, update, delete on deploy_traffic to berth_control;
