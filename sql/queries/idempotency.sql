-- First answers, kept for a day for clients that ask again with the same Idempotency-Key.

-- name: hold_key
-- Of two calls with one key only one runs; the other hears so at once instead of waiting.
select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as held;

-- name: find_answer
-- What the first call was answered, and to which content.
select request_hash, status, headers, body from idempotency where user_id = $1 and operation = $2 and key = $3;

-- name: keep_answer
-- Written with what the operation wrote, so that neither is ever there alone.
insert into idempotency (user_id, operation, key, request_hash, status, headers, body)
values ($1, $2, $3, $4, $5, $6, $7);

-- name: forget_answers
-- After a day a key may be used anew; a client that asks again does so within minutes. A handful at a time, so that no
-- statement runs long.
with old as (
    select user_id, operation, key from idempotency
    where created_at < now() - interval '24 hours'
    order by created_at limit $1
), forgotten as (
    delete from idempotency using old
    where idempotency.user_id = old.user_id and idempotency.operation = old.operation and idempotency.key = old.key
    returning idempotency.key
)
select count(*) as rows from forgotten;
