-- On top of bench/market.sql: a claimed lead's conversation for each of 1,000 pairs (person n buys, n + 1,000 sells), and
-- the one table of the peers, with the keys that anybody would give it.

insert into leads (id, listing_id, buyer_id, status, claimed_by, claimed_at)
select md5('lead' || n)::uuid, md5('listing' || n)::uuid, md5('user' || n)::uuid, 'claimed', md5('user' || n + 1000)::uuid,
       now()
from generate_series(1, 1000) as n;

insert into conversations (id, lead_id)
select md5('conversation' || n)::uuid, md5('lead' || n)::uuid from generate_series(1, 1000) as n;

create table peer_messages (
    id bigint generated always as identity primary key,
    room text not null,
    sender uuid not null references users,
    client_id text not null,
    message text not null,
    created_at timestamptz not null default now()
);
create index peer_messages_room on peer_messages (room, id);
