-- What devices say they have.

-- name: acknowledge_many
-- Keeps the greatest offset of each sign-in and stream; null where the stream does not have the place (another epoch, or
-- beyond its top; of a channel without a stream there is 0, and nothing to keep). Rows are locked in their order, so that two sets never wait for each other in a circle.
with item as (
    select channel, sign_in_id, epoch, "offset", place
    from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[]) with ordinality
        as item (channel, sign_in_id, epoch, "offset", place)
), known as (
    select sign_in_id, item."offset", place, stream.id as stream_id, named.epoch
    from item
    left join streams as stream on stream.channel = item.channel
    cross join lateral stream_epoch(item.channel, stream.id, stream.named_by_id) as named (epoch)
    where item.epoch in ('', named.epoch) and item."offset" between 0 and coalesce(stream.top, 0)
), greatest_of_each as (
    select stream_id, sign_in_id, epoch, max("offset") as "offset" from known
    where stream_id is not null
    group by stream_id, sign_in_id, epoch
), stored as (
    insert into acknowledgements as earlier (stream_id, sign_in_id, epoch, "offset")
    select stream_id, sign_in_id, epoch, "offset" from greatest_of_each order by stream_id, sign_in_id
    on conflict (stream_id, sign_in_id) do update
        set epoch = excluded.epoch, "offset" = excluded."offset", at = excluded.at
        where earlier.epoch <> excluded.epoch or earlier."offset" < excluded."offset"
)
select item.place::int as position, known.epoch, greatest(known."offset", asked."offset", earlier."offset") as "offset"
from item
left join known on known.place = item.place
left join greatest_of_each as asked on (asked.stream_id, asked.sign_in_id) = (known.stream_id, known.sign_in_id)
left join acknowledgements as earlier
    on (earlier.stream_id, earlier.sign_in_id, earlier.epoch) = (known.stream_id, known.sign_in_id, known.epoch)
order by item.place;

-- name: delivered
-- How far each living sign-in of a person has acknowledged a channel; 0 where it has not, or in another numbering only.
select sign_ins.id as sign_in_id, coalesce(acknowledged."offset", 0) as "offset", acknowledged.at
from sign_ins
left join streams as stream on stream.channel = $1
left join acknowledgements as acknowledged
    on (acknowledged.stream_id, acknowledged.sign_in_id) = (stream.id, sign_ins.id)
    and acknowledged.epoch = stream_epoch($1, stream.id, stream.named_by_id)
where user_id = $2 and revoked_at is null
order by sign_ins.id;
