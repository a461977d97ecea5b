-- Background jobs in the tables of pgqueuer. Taking, finishing and postponing them is pgqueuer's; this is the rest.
-- `attempts` counts the tries that failed in an orderly way, `headers.begun` the tries that began: the difference are
-- tries that ended with their process.

-- name: enqueue_jobs
-- All jobs of a transaction in one round trip; one whose key already waits or runs is not added.
-- In the order of their keys, so that two transactions never wait for each other in a circle.
with enqueued as (
    insert into pgqueuer (entrypoint, payload, dedupe_key, execute_after, priority, status)
    select name, payload, key, now() + delay, priority, 'queued'
    from unnest($1::text[], $2::bytea[], $3::text[], $4::interval[], $5::int[]) with ordinality
        as job (name, payload, key, delay, priority, place)
    order by key, place
    on conflict (dedupe_key) where status = any (array['queued'::pgqueuer_status, 'picked'::pgqueuer_status])
        and dedupe_key is not null do nothing
    returning id, entrypoint, priority
)
insert into pgqueuer_log (job_id, status, entrypoint, priority)
select id, 'queued', entrypoint, priority from enqueued;

-- name: begin_try
-- Counted before the handler runs, so that a job that kills its process is found out.
update pgqueuer
set headers = coalesce(nullif(headers, 'null'), '{}')
              || jsonb_build_object('begun', coalesce((headers->>'begun')::int, 0) + 1)
where id = $1
returning (headers->>'begun')::int as number, (headers->>'begun')::int - 1 - attempts as deaths;

-- name: uncount_try
-- A try that we broke off is no try: pgqueuer adds one to `attempts` when it takes the job back.
update pgqueuer
set attempts = attempts - 1, headers = jsonb_set(headers, '{begun}', to_jsonb((headers->>'begun')::int - 1))
where id = $1;

-- name: bury_unknown
-- A job that nobody has known for $2 becomes a dead letter; not at once, for its process may be just about to start.
with unknown as (
    update pgqueuer set status = 'failed', updated = now(), queue_manager_id = null
    where entrypoint <> all ($1::text[])
      and (status = 'queued' and execute_after < now() - $2::interval
           or status = 'picked' and heartbeat < now() - $2::interval)
    returning id, entrypoint, priority
)
insert into pgqueuer_log (job_id, status, entrypoint, priority, traceback)
select id, 'failed', entrypoint, priority, jsonb_build_object(
    'job_id', id, 'timestamp', utc(now()), 'exception_type', 'DeadLetter',
    'exception_message', 'no process has a handler for ' || entrypoint, 'traceback', '', 'additional_context', null)
from unknown;

-- name: queue_state
-- How much waits, runs and is dead, and how long the oldest of each has been so; a delayed job is not yet due.
select entrypoint as name, state, count(*) as jobs,
       extract(epoch from now() - min(case state when 'waiting' then execute_after else updated end))::float8 as seconds
from pgqueuer
cross join lateral (select case when status = 'failed' then 'dead' when status = 'picked' then 'running'
                                when execute_after > now() then 'delayed' else 'waiting' end) as told (state)
group by entrypoint, state
order by entrypoint, state;

-- name: dead_letters
-- What a person must look at, oldest first: the newest error of each and no payload. All of them where $1 is null.
select job.id, job.entrypoint as name, coalesce((job.headers->>'begun')::int, 0) as tries, job.created, job.updated as since,
       coalesce(last.traceback->>'exception_message', 'unknown') as error,
       coalesce(last.traceback->>'traceback', '') as traceback
from pgqueuer as job
left join lateral (
    select traceback from pgqueuer_log
    where job_id = job.id and status = 'failed' and traceback is not null
    order by created desc, id desc limit 1
) as last on true
where job.status = 'failed' and ($1::bigint[] is null or job.id = any ($1::bigint[]))
order by job.updated, job.id
limit $2;

-- name: retry_dead
-- Starts counting anew. Without its key, under which another may have come meanwhile. All of them where $1 is null.
with retried as (
    update pgqueuer
    set status = 'queued', execute_after = now(), updated = now(), attempts = 0, headers = headers - 'begun',
        queue_manager_id = null, dedupe_key = null
    where status = 'failed' and ($1::bigint[] is null or id = any ($1::bigint[]))
    returning id, entrypoint, priority
), logged as (
    insert into pgqueuer_log (job_id, status, entrypoint, priority)
    select id, 'queued', entrypoint, priority from retried
)
select id from retried order by id;

-- name: drop_dead
-- A person decided that it need not be done.
with dropped as (
    delete from pgqueuer where status = 'failed' and id = any ($1::bigint[])
    returning id, entrypoint, priority
), logged as (
    insert into pgqueuer_log (job_id, status, entrypoint, priority)
    select id, 'deleted', entrypoint, priority from dropped
)
select id from dropped order by id;

-- name: clean_job_log
-- A handful at a time, so that no statement runs long; a job that is still in the queue keeps its history.
with old as (
    select id from pgqueuer_log
    where created < now() - $1::interval and not exists (select from pgqueuer where pgqueuer.id = job_id)
    order by created limit $2
), deleted as (
    delete from pgqueuer_log using old where pgqueuer_log.id = old.id returning pgqueuer_log.id
)
select count(*) as rows from deleted;
