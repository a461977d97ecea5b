-- A buyer's open interest, whom it was offered to, and who claimed it.

create table leads (
    id uuid primary key default uuidv7(),
    listing_id uuid not null references listings,
    buyer_id uuid not null references users,
    agency_id uuid references agencies,
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    status text not null default 'open' check (status in ('open', 'claimed', 'closed')),
    claimed_by uuid references users,
    claimed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((claimed_by is null) = (claimed_at is null)),
    check (claimed_by is not null or status <> 'claimed')
);
create unique index leads_open on leads (listing_id, buyer_id) where status <> 'closed';
create index leads_claimed_by on leads (claimed_by, created_at desc) where claimed_by is not null;

create table lead_offers (
    lead_id uuid not null references leads,
    offered_to uuid not null references users,
    offered_at timestamptz not null default now(),
    outcome text not null default 'offered' check (outcome in ('offered', 'claimed', 'taken')),
    settled_at timestamptz,
    primary key (lead_id, offered_to)
);
create index lead_offers_offered_to on lead_offers (offered_to, offered_at desc);

-- A lead as `viewer` may see it: who asks stays hidden from agents until one of them has claimed.
create function lead_body(lead leads, conversation_id uuid, viewer uuid) returns jsonb
language sql stable
return jsonb_build_object(
    'id', lead.id, 'listing_id', lead.listing_id,
    'listing_title', (select title from listings where listings.id = lead.listing_id),
    'agency_id', lead.agency_id, 'status', lead.status,
    'buyer', case when viewer in (lead.claimed_by, lead.buyer_id) then (
        select jsonb_build_object('id', users.id, 'full_name', full_name, 'phone', phone)
        from users where users.id = lead.buyer_id) end,
    'conversation_id', case when viewer in (lead.claimed_by, lead.buyer_id) then conversation_id end,
    'claimed_by', lead.claimed_by, 'claimed_at', utc(lead.claimed_at),
    'created_at', utc(lead.created_at), 'updated_at', utc(lead.updated_at));
