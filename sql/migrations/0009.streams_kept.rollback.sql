drop function tend_events(timestamptz);
drop function forget_empty_partitions();
drop function make_events_partition(text, text, timestamptz, timestamptz);
drop function events_due(timestamptz);
drop function events_kept();
alter table events rename to later_events;
drop index events_xid;
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
insert into events select stream_id, "offset", id, type, data, at, xid from later_events;
drop table later_events;
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
alter table streams drop column kept;
drop function stream_kept(text);
