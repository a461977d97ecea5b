alter table streams reset (fillfactor);
create or replace function emit(announced jsonb)
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
            select event.n, stream.id as stream_id, stream.channel, stream.kept,
                   stream_epoch(stream.channel, stream.id, stream.named_by_id) as epoch,
                   stream.top + row_number() over (partition by stream.id order by event.n) as "offset"
            from event
            cross join lateral (select distinct jsonb_array_elements_text(event.targets)) as wanted (channel)
            join streams as stream on stream.channel = wanted.channel
        ), stored as (
            insert into events (stream_id, "offset", id, type, data, at, kept)
            select target.stream_id, target."offset", event.id, event.type, event.data, moment, target.kept
            from target join event using (n)
        ), numbered as (
            update streams set top = newest."offset"
            from (select stream_id, max("offset") as "offset" from target group by stream_id) as newest
            where streams.id = newest.stream_id
        )
        select event.ref, event.n, target.channel, target.epoch, target."offset", event.type,
               event_body(event.id, event.type, moment, event.data || event.joined)
        from target join event using (n)
        order by event.n, target.channel;
end
$$;
create or replace function event_body(id uuid, type text, at timestamptz, data jsonb) returns jsonb
language sql immutable parallel safe
return jsonb_build_object('id', id, 'type', type, 'at', utc(at), 'data', data);
create or replace function agency_channel(id uuid) returns text language sql immutable parallel safe strict return 'agency:' || id;
create or replace function user_channel(id uuid) returns text language sql immutable parallel safe strict return 'user:' || id;
create or replace function utc(moment timestamptz) returns text
language sql immutable parallel safe strict
return to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
