-- Reading the numbered streams: catching up, and finding what nobody told us of.

-- name: read_streams
-- What each of many readers missed since its position, in one statement; nothing is read of a stream at its head.
select asked.place::int as place, stream_epoch(stream.id) as epoch, stream.top,
       missed."offset", missed.type, missed.body
from unnest($1::text[], $2::bigint[]) with ordinality as asked (channel, since, place)
join streams as stream on stream.channel = asked.channel
left join lateral (
    select "offset", type, event_body(events.id, events.type, events.at, events.data) as body
    from events
    where stream_id = stream.id and events."offset" > asked.since and stream.top > asked.since
    order by events."offset"
    limit $3
) as missed on true
order by asked.place, missed."offset";

-- name: read_history
-- A part of one stream, forwards from after an offset or backwards from before it, and where the stream stands.
select 1 as place, stream_epoch(stream.id) as epoch, stream.top, past."offset", past.type, past.body
from streams as stream
left join lateral (
    select "offset", type, event_body(events.id, events.type, events.at, events.data) as body
    from events
    where stream_id = stream.id
      and case when $4::boolean then $2::bigint is null or "offset" < $2 else "offset" > coalesce($2, 0) end
    order by case when $4 then -"offset" else "offset" end
    limit $3
) as past on true
where stream.channel = $1
order by case when $4 then -past."offset" else past."offset" end;

-- name: open_streams
-- A stream has an epoch and an offset before its first event, so that its first reader gets a position.
insert into streams (channel)
select missing from unnest($1::text[]) as missing
where not exists (select from streams where channel = missing)
order by missing
on conflict do nothing;

-- name: tail
-- The newest offset of every stream that gained events which the snapshot $1 could not see, and a new snapshot.
-- By visibility, not by time or id: both miss a transaction that commits late.
select pg_current_snapshot()::text as snapshot, stream.channel, stream_epoch(stream.id) as epoch, newest."offset"
from (values (true)) as always
left join (
    select stream_id, max("offset") as "offset" from events
    where xid >= pg_snapshot_xmin($1::text::pg_snapshot)
      and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
    group by stream_id
) as newest on true
left join streams as stream on stream.id = newest.stream_id;

-- name: first_snapshot
-- Where the tail begins.
select pg_current_snapshot()::text as snapshot;
