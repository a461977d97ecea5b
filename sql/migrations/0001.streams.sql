-- What everything stands on: extensions, one rendering of time, and the numbered streams of events.

create extension if not exists citext;
create extension if not exists pg_trgm;

-- The one rendering of a moment: UTC with milliseconds, 2026-11-22T10:00:00.120Z.
create function utc(moment timestamptz) returns text
language sql immutable parallel safe strict
return to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- One row. `generation` names this database's numbering: restoring a backup must change it, so that no client
-- takes an offset of the lost future for one of the present.
create table deployment (
    only_row boolean primary key default true check (only_row),
    generation text not null default left(gen_random_uuid()::text, 8)
);
insert into deployment default values;

-- A stream is the numbered history of a channel. `top` is the offset of its newest event; the row's lock is what
-- makes offsets follow the order of commits. The id is never used again, so it names the stream's own birth.
create table streams (
    id bigint generated always as identity primary key,
    channel text not null unique check (length(channel) <= 255),
    top bigint not null default 0
);

-- `xid` is who wrote the row: the tail asks for what its last snapshot could not see. No foreign key to streams:
-- rows come only from emit(), which holds the stream's lock.
create table events (
    stream_id bigint not null,
    "offset" bigint not null,
    id uuid not null,
    type text not null,
    data jsonb not null,
    at timestamptz not null,
    xid xid8 not null default pg_current_xact_id(),
    primary key (stream_id, "offset")
);
create index events_xid on events (xid);

create function stream_epoch(stream_id bigint) returns text
language sql stable parallel safe
return (select generation || '.' || stream_id from deployment);

-- The channels of a person and of an agency, as the code spells them.
create function user_channel(id uuid) returns text language sql immutable parallel safe strict return 'user:' || id;
create function agency_channel(id uuid) returns text language sql immutable parallel safe strict return 'agency:' || id;

-- What a client receives of an event: the same in every stream it stands in, live or replayed.
create function event_body(id uuid, type text, at timestamptz, data jsonb) returns jsonb
language sql immutable parallel safe
return jsonb_build_object('id', id, 'type', type, 'at', utc(at), 'data', data);

-- Numbers and stores events; the last thing a transaction does before COMMIT. `announced` is an array of
-- {"type", "to": [channel, …], "data": {ids and small facts}, "joined"?: {text to send along but not to keep},
-- "ref"?: a number handed back}. Answers one row per event and stream, in the order given (n counts the events).
-- Streams are locked in the order of their channels, so two emitters never wait for each other in a circle.
create function emit(announced jsonb)
returns table (ref int, n int, channel text, epoch text, "offset" bigint, type text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
    channels text[] := array(
        select distinct target from jsonb_array_elements(announced) as event,
               jsonb_array_elements_text(event->'to') as target order by target);
    moment timestamptz := clock_timestamp();
begin
    if channels = '{}' then
        return;
    end if;
    insert into streams (channel)
        select missing from unnest(channels) as missing
        where not exists (select from streams where channel = missing)
        order by missing
        on conflict do nothing;
    perform from streams where channel = any (channels) order by channel for no key update;
    return query
        with event as materialized (
            select (value->>'ref')::int as ref, place::int as n, uuidv7() as id, value->>'type' as type,
                   value->'data' as data, coalesce(value->'joined', '{}') as joined, value->'to' as targets
            from jsonb_array_elements(announced) with ordinality as listed (value, place)
        ), target as (
            select event.n, stream.id as stream_id, stream.channel,
                   stream.top + row_number() over (partition by stream.id order by event.n) as "offset"
            from event
            cross join lateral (select distinct jsonb_array_elements_text(event.targets)) as wanted (channel)
            join streams as stream on stream.channel = wanted.channel
        ), stored as (
            insert into events (stream_id, "offset", id, type, data, at)
            select target.stream_id, target."offset", event.id, event.type, event.data, moment
            from target join event using (n)
        ), numbered as (
            update streams set top = newest."offset"
            from (select stream_id, max("offset") as "offset" from target group by stream_id) as newest
            where streams.id = newest.stream_id
        )
        select event.ref, event.n, target.channel, stream_epoch(target.stream_id), target."offset", event.type,
               event_body(event.id, event.type, moment, event.data || event.joined)
        from target join event using (n)
        order by event.n, target.channel;
end
$$;
