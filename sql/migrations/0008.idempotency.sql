-- The first answer to each Idempotency-Key of a person and an operation.
-- `body` is what was sent, byte for byte. The hash is over what the request meant, not over how it was written.
create table idempotency (
    user_id uuid not null references users on delete cascade,
    operation text not null,
    key text not null check (length(key) between 1 and 255),
    request_hash bytea not null,
    status smallint not null,
    headers jsonb not null,
    body bytea not null,
    created_at timestamptz not null default now(),
    primary key (user_id, operation, key)
);
create index idempotency_created_at on idempotency (created_at);
