-- Tokens of the JSON API: whoever holds one acts as its user, for one customer.

create table api_token (
    id bigint generated always as identity primary key,
    user_id bigint not null,
    customer_id bigint not null,
    -- By which it is known again; sending its form twice makes one.
    name text not null constraint api_token_name_length check (char_length(name) between 1 and 100),
    -- SHA-256: what was shown once is nowhere here.
    token_hash bytea not null constraint api_token_hash_once unique constraint api_token_hash_length check (octet_length(token_hash) = 32),
    scope text not null constraint api_token_scope check (scope in ('read', 'write')),
    created timestamptz not null default now(),
    last_used timestamptz,
    -- From then on it is nobody's; null: never.
    expires timestamptz,
    constraint api_token_name_once unique (user_id, customer_id, name),
    -- Who leaves a customer, or is deleted, leaves no token behind.
    constraint api_token_of_member foreign key (user_id, customer_id) references membership on delete cascade
);

grant select, insert (user_id, customer_id, name, token_hash, scope, expires), update (last_used), delete
    on api_token to berth_web;
