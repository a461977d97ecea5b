-- Events are kept for as long as their class promises, in partitions that are dropped as a whole.

-- The class of a stream, fixed when it is opened: what a listing and a map tell is soon stale, all else is kept a month.
create function stream_kept(channel text) returns text
language sql immutable parallel safe strict
return case when starts_with(channel, 'listing:') or starts_with(channel, 'map:') then 'day' else 'month' end;

alter table streams add column kept text not null generated always as (stream_kept(channel)) stored;

alter table events rename to earlier_events;
drop index events_xid;

-- By class, then by time. A partition has the primary key (stream_id, "offset"); the whole has none, because that would
-- have to hold `kept` and `at` as well. That a place is taken once is the work of the stream's lock in emit().
create table events (
    stream_id bigint not null,
    "offset" bigint not null,
    id uuid not null,
    type text not null,
    data jsonb not null,
    at timestamptz not null,
    xid xid8 not null default pg_current_xact_id(),
    kept text not null
) partition by list (kept);
create index events_xid on events (xid);
create table events_month partition of events for values in ('month') partition by range (at);
create table events_day partition of events for values in ('day') partition by range (at);
-- What no partition was made for in time; each new partition takes over what belongs to it and has its form from here.
create table events_month_default partition of events_month (primary key (stream_id, "offset")) default;
create table events_day_default partition of events_day (primary key (stream_id, "offset")) default;

-- What is promised of each class, and the unit of time that one partition of it holds.
create function events_kept() returns table (kept text, unit text, promised interval)
language sql immutable parallel safe
as $$ values ('month', 'week', interval '30 days'), ('day', 'day', interval '1 day') $$;

-- What tend_events() has to do at `moment`, the most urgent first. `first` to before `beyond`: the time a partition holds.
-- Rows in a default partition ask for one of their own; not while many are still added to them, for the move stops that.
create function events_due(moment timestamptz)
returns table (step text, kept text, name text, first timestamptz, beyond timestamptz)
language plpgsql stable set timezone = 'UTC' as $$
#variable_conflict use_column
begin
    return query
        with there as (
            select relname::text as name, to_date(right(relname, 8), 'YYYYMMDD')::timestamptz as first
            from pg_inherits join pg_class on pg_class.oid = inhrelid
            where inhparent in ('events_month'::regclass, 'events_day'::regclass) and relname not like '%\_default'
        ), stranded as (
            select 'month' as kept, date_trunc('week', at) as first, count(*) as events from events_month_default
            group by 2
            union all
            select 'day', date_trunc('day', at), count(*) from events_day_default group by 2
        ), wanted as (
            select class.kept, first
            from events_kept() as class,
                 generate_series(date_trunc(unit, moment), moment + '7 days', ('1 ' || unit)::interval) as first
            union
            select kept, first from stranded
        ), named as (
            select class.*, first, first + ('1 ' || unit)::interval as beyond,
                   'events_' || kept || '_' || to_char(first, 'YYYYMMDD') as name
            from wanted join events_kept() as class using (kept)
        )
        select 'make', kept, name, first, beyond
        from named left join stranded using (kept, first)
        where name not in (select name from there) and (beyond < moment or coalesce(events, 0) <= 10000)
        union all
        select 'drop', kept, name, there.first, there.first + ('1 ' || unit)::interval
        from there join events_kept() as class on there.name like 'events\_' || kept || '\_%'
        where there.first + ('1 ' || unit)::interval <= moment - promised
        order by 1 desc, 4;
end
$$;

-- Makes a partition, with the rows of its time that had fallen into the default one. Readers are held up for the last
-- moment only; writers during the move, and only if it is about the present: one that has chosen the default partition
-- would find that its row no longer belongs there.
create function make_events_partition(kept text, name text, first timestamptz, beyond timestamptz) returns bigint
language plpgsql set timezone = 'UTC' as $$
declare
    spill text := 'events_' || kept || '_default';
    moved bigint;
begin
    execute format('create table %I (like %I including all)', name, spill);
    if clock_timestamp() between first - interval '1 hour' and beyond + interval '1 hour' then
        execute format('lock table only %I in share row exclusive mode', 'events_' || kept);
    end if;
    execute format('lock table %I in share row exclusive mode', spill);
    execute format('insert into %I select * from %I where at >= %L and at < %L', name, spill, first, beyond);
    get diagnostics moved = row_count;
    if moved > 0 then
        execute format('delete from %I where at >= %L and at < %L', spill, first, beyond);
    end if;
    execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                   'events_' || kept, name, first, beyond);
    return moved;
end
$$;

-- An ANALYZE of an empty partition makes the planner read it from end to end, also when it has filled since. Without
-- figures it takes the index.
create function forget_empty_partitions() returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    perform pg_clear_relation_stats('public', relname)
    from pg_partition_tree('events') join pg_class on pg_class.oid = relid
    where isleaf and reltuples = 0;
exception when lock_not_available then
    null;
end
$$;

-- Does one thing that is due and says what; null if there is nothing, or nothing that can be done now. Call it until
-- then, each time in a transaction of its own, for its locks stop who reads (and a drop: who writes) until COMMIT. It
-- waits for a lock only as long as everybody else can wait behind it: what is refused is tried again the next time.
-- It runs as the owner of the tables, whoever calls it.
create function tend_events(moment timestamptz default now()) returns text
language plpgsql security definer
set search_path = public, pg_temp set lock_timeout = '100ms' set timezone = 'UTC' as $$
declare
    due record;
    moved bigint;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('tend_events', 0)) then
        return null;
    end if;
    perform forget_empty_partitions();
    for due in select * from events_due(moment) loop
        begin
            if due.step = 'make' then
                moved := make_events_partition(due.kept, due.name, due.first, due.beyond);
                return format('made %s', due.name) || case when moved > 0 then format(' of %s stray events', moved) else '' end;
            end if;
            execute format('drop table %I', due.name);
            return format('dropped %s', due.name);
        exception when lock_not_available then
            continue;
        end;
    end loop;
    return null;
end
$$;

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
        select event.ref, event.n, target.channel, stream_epoch(target.stream_id), target."offset", event.type,
               event_body(event.id, event.type, moment, event.data || event.joined)
        from target join event using (n)
        order by event.n, target.channel;
end
$$;

-- First the partitions of today and ahead, then the rows, then partitions for those that found none.
do $$
begin
    while tend_events() is not null loop end loop;
    insert into events (stream_id, "offset", id, type, data, at, xid, kept)
        select stream_id, "offset", events.id, type, data, at, xid, kept
        from earlier_events as events join streams on streams.id = stream_id;
    while tend_events() is not null loop end loop;
end
$$;
drop table earlier_events;
