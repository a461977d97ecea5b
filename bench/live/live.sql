-- On top of bench/market.sql: a claimed lead's conversation for each of 1,000 pairs (person n buys, n + 1,000 sells), in
-- which they have said something before, and the one table of the peers, with the keys that anybody would give it. Both
-- are as full as after some days: an empty table is one that no index is used for.

insert into leads (id, listing_id, buyer_id, status, claimed_by, claimed_at)
select md5('lead' || n)::uuid, md5('listing' || n)::uuid, md5('user' || n)::uuid, 'claimed', md5('user' || n + 1000)::uuid,
       now()
from generate_series(1, 1000) as n;

insert into conversations (id, lead_id, top_seq)
select md5('conversation' || n)::uuid, md5('lead' || n)::uuid, 30 from generate_series(1, 1000) as n;

insert into messages (conversation_id, seq, sender_id, client_id, message)
select md5('conversation' || n)::uuid, seq, md5('user' || n)::uuid, 'before-' || seq, repeat('x', 100)
from generate_series(1, 1000) as n, generate_series(1, 30) as seq;

select count(*) from generate_series(1, 10) as time, lateral emit((
    select jsonb_agg(jsonb_build_object(
        'type', 'bench.before', 'data', jsonb_build_object('time', time),
        'to', jsonb_build_array(user_channel(md5('user' || n)::uuid), user_channel(md5('user' || n + 1000)::uuid))))
    from generate_series(1, 1000) as n));

create table peer_messages (
    id bigint generated always as identity primary key,
    room text not null,
    sender uuid not null references users,
    client_id text not null,
    message text not null,
    created_at timestamptz not null default now()
);
create index peer_messages_room on peer_messages (room, id);

insert into peer_messages (room, sender, client_id, message)
select md5('conversation' || n), md5('user' || n)::uuid, 'before-' || seq, repeat('x', 100)
from generate_series(1, 1000) as n, generate_series(1, 30) as seq;
