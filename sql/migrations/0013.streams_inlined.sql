-- What stands in every write is inlined into it. A function that PostgreSQL calls for each row costs tens of
-- microseconds, more than all else that a message takes; it is inlined only if it claims to be no more than its body
-- is (`uuid || text` and to_char are stable) and has no query in it.

create or replace function utc(moment timestamptz) returns text
language sql stable parallel safe strict
return to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

create or replace function user_channel(id uuid) returns text language sql immutable parallel safe strict
return 'user:' || id::text;
create or replace function agency_channel(id uuid) returns text language sql immutable parallel safe strict
return 'agency:' || id::text;

create or replace function event_body(id uuid, type text, at timestamptz, data jsonb) returns jsonb
language sql stable parallel safe
return jsonb_build_object('id', id, 'type', type, 'at', utc(at), 'data', data);

-- The streams are read while they are locked, and go as arrays from step to step. A join of JSON with the table, whose
-- size the planner guesses at ten thousand rows, would read the whole of it.
create or replace function emit(announced jsonb)
returns table (ref int, n int, channel text, epoch text, "offset" bigint, type text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
    channels text[] := array(
        select distinct target from jsonb_array_elements(announced) as event,
               jsonb_array_elements_text(event->'to') as target order by target);
    moment timestamptz := clock_timestamp();
    ids bigint[];
    tops bigint[];
    kepts text[];
    epochs text[];
begin
    if channels = '{}' then
        return;
    end if;
    insert into streams (channel)
        select missing from unnest(channels) as missing
        where not exists (select from streams where channel = missing)
        order by missing
        on conflict do nothing;
    -- The epoch is that of stream_epoch(), which has a query in it.
    select array_agg(id order by channel), array_agg(top order by channel), array_agg(kept order by channel),
           array_agg(generation || '.' || case when named_by_id then id::text else left(md5(channel), 8) end
                     order by channel)
        into ids, tops, kepts, epochs
        from (
            select stream.* from unnest(channels) as wanted (channel) join streams as stream using (channel)
            order by stream.channel for no key update of stream
        ) as locked, deployment;
    return query
        with event as materialized (
            select ref, n, id, type, data, targets, event_body(id, type, moment, data || joined) as body
            from (
                select (value->>'ref')::int as ref, place::int as n, uuidv7() as id, value->>'type' as type,
                       value->'data' as data, coalesce(value->'joined', '{}') as joined, value->'to' as targets
                from jsonb_array_elements(announced) with ordinality as listed (value, place)
            ) as made
        ), target as materialized (
            select event.n, stream.id as stream_id, stream.channel, stream.kept, stream.epoch,
                   stream.top + row_number() over (partition by stream.id order by event.n) as "offset"
            from event
            cross join lateral (select distinct jsonb_array_elements_text(event.targets)) as wanted (channel)
            join unnest(channels, ids, tops, kepts, epochs) as stream (channel, id, top, kept, epoch) using (channel)
        ), stored as (
            insert into events (stream_id, "offset", id, type, data, at, kept)
            select target.stream_id, target."offset", event.id, event.type, event.data, moment, target.kept
            from target join event using (n)
        ), numbered as (
            update streams set top = newest."offset"
            from (select stream_id, max("offset") as "offset" from target group by stream_id) as newest
            where streams.id = any (ids) and streams.id = newest.stream_id
        )
        select event.ref, event.n, target.channel, target.epoch, target."offset", event.type, event.body
        from target join event using (n)
        order by event.n, target.channel;
end
$$;

-- The counter moves with every event: room on the page keeps the new version beside the old one.
alter table streams set (fillfactor = 70);
