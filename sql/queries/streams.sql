-- Reading the numbered streams: catching up, and finding what nobody told us of.

-- name: read_streams
-- What each of many readers missed since its position, at most $3 events, in one statement. Nothing is read of a stream
-- at its head, nor for a reader who is more than $4 behind. Partitions of the other class and of the future are passed over.
-- A channel without a stream, here as in the others, stands at 0 in the epoch that its first event will have.
-- The selects around parameters hide them from the planner, or it would plan all partitions anew each time (adr/0010).
select asked.place::int as place, stream_epoch(asked.channel, stream.id, stream.named_by_id) as epoch,
       coalesce(stream.top, 0) as top,
       missed."offset", missed.type, missed.body
from unnest((select $1::text[]), (select $2::bigint[])) with ordinality as asked (channel, since, place)
left join streams as stream on stream.channel = asked.channel
left join lateral (
    select "offset", type, event_body(events.id, events.type, events.at, events.data) as body
    from events
    where kept = stream.kept and stream_id = stream.id and events."offset" > asked.since
      and stream.top - asked.since between 1 and $4 and at < now() + interval '1 hour'
    order by events."offset"
    limit $3
) as missed on true
order by asked.place, missed."offset";

-- name: read_backwards
-- The newest of one stream before an offset, newest first, at most $3.
select 1 as place, stream_epoch(asked.channel, stream.id, stream.named_by_id) as epoch,
       coalesce(stream.top, 0) as top, past."offset", past.type, past.body
from (select $1::text as channel) as asked
left join streams as stream on stream.channel = asked.channel
left join lateral (
    select "offset", type, event_body(events.id, events.type, events.at, events.data) as body
    from events
    where kept = stream.kept and stream_id = stream.id and events."offset" < $2 and at < now() + interval '1 hour'
    order by events."offset" desc
    limit $3
) as past on true
order by past."offset" desc;

-- name: tail
-- The newest offset of every stream that gained events which the snapshot $1 could not see, and a new snapshot.
-- By visibility, not by time or id: both miss a transaction that commits late. Rows of transactions that are yet to
-- come were brought by a restore; they would be found each time. The parameters are hidden as in read_streams.
select pg_current_snapshot()::text as snapshot, generation,
       stream.channel, stream_epoch(stream.channel, stream.id, stream.named_by_id) as epoch, newest."offset",
       newest.xid as newest
from deployment
left join (
    select stream_id, max("offset") as "offset", max(xid::text::bigint) as xid from events
    where xid >= (select pg_snapshot_xmin($1::text::pg_snapshot))
      and xid < (select pg_snapshot_xmax(pg_current_snapshot()))
      and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
      and at < now() + interval '1 hour'
    group by stream_id
) as newest on true
left join streams as stream on stream.id = newest.stream_id;

-- name: first_mark
-- Where the tail begins: what can be seen, and the newest transaction with an event among it.
select pg_current_snapshot()::text as snapshot, coalesce((
    select xid::text::bigint from events
    where xid < (select pg_snapshot_xmax(pg_current_snapshot())) and at < now() + interval '1 hour'
    order by xid desc limit 1), 0) as newest, generation
from deployment;

-- name: heads
-- Where streams stand, however they came there.
select asked.channel, stream_epoch(asked.channel, stream.id, stream.named_by_id) as epoch,
       coalesce(stream.top, 0) as "offset"
from unnest($1::text[]) as asked (channel)
left join streams as stream on stream.channel = asked.channel;

-- name: renumber
-- Ends the numbering $1 in every stream, unless another process has done so already.
update deployment set generation = default where generation = $1;

-- name: tend_events
-- Makes or drops one partition of events and says which; null when nothing is left that can be done now.
select tend_events(coalesce($1, now())) as done;
