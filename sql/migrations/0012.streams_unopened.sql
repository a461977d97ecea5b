-- A stream has a row from its first event on: anybody may follow any tile of the map, and seventeen million empty rows
-- would be theirs to make. A channel without one stands at offset 0, in the epoch that its first event will have.

-- Streams of before keep the epoch that apps know, which ends in their id; what is opened from now on is named by its channel.
alter table streams add column named_by_id boolean not null default true;
alter table streams alter column named_by_id set default false;

-- What the numbering of a channel is called; `id` and `named_by_id` are null where it has no stream yet. No stream is
-- ever deleted: one that began anew under the same name would give the same offsets to other events.
create function stream_epoch(channel text, id bigint, named_by_id boolean) returns text
language sql stable parallel safe
return (select generation || '.' || case when named_by_id then id::text else left(md5(channel), 8) end from deployment);

-- For processes of the release before, who know streams by their id only.
create or replace function stream_epoch(stream_id bigint) returns text
language sql stable parallel safe
return coalesce(
    (select stream_epoch(channel, id, named_by_id) from streams where id = stream_id),
    (select generation || '.0' from deployment));

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
