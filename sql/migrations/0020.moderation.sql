-- Looking after the market: what people report, what waits for a moderator, and what is offered twice.

create table reports (
    id uuid primary key default uuidv7(),
    listing_id uuid not null references listings,
    reporter_id uuid not null references users,
    country text not null check (country ~ '^[A-Z]{2}$'),
    reason text not null check (reason in (
        'spam', 'misclassified', 'duplicate', 'expired', 'offensive', 'fraud', 'wrong_price', 'other')),
    text text check (length(text) between 1 and 4000),
    -- upheld: the listing was rejected; dismissed: a moderator saw nothing wrong.
    state text not null default 'open' check (state in ('open', 'upheld', 'dismissed')),
    settled_by uuid references users,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    check ((state = 'open') = (settled_at is null))
);
create unique index reports_open on reports (listing_id, reporter_id) where state = 'open';
create index reports_listing on reports (listing_id, created_at desc);

-- Two listings that may be one thing: a row a pair, the smaller id first.
create table duplicates (
    listing_id uuid not null references listings,
    other_id uuid not null references listings,
    country text not null check (country ~ '^[A-Z]{2}$'),
    reasons text[] not null check (cardinality(reasons) > 0 and reasons <@ array['unit', 'pictures', 'alike']),
    -- How likely they are the same, were each reason alone.
    score double precision not null check (score between 0 and 1),
    state text not null default 'candidate' check (state in ('candidate', 'confirmed', 'dismissed')),
    settled_by uuid references users,
    settled_at timestamptz,
    found_at timestamptz not null default now(),
    primary key (listing_id, other_id),
    check (listing_id < other_id),
    check ((state = 'candidate') = (settled_at is null))
);
create index duplicates_other on duplicates (other_id);
create index listings_canonical on listings (canonical_id) where canonical_id is not null;

-- What waits for a moderator. A claim keeps others away until it runs out; it is not taken off the row then, so that
-- an app which knows the row knows how it stands.
create table moderation_items (
    id uuid primary key default uuidv7(),
    kind text not null check (kind in ('review', 'reports', 'duplicate')),
    -- Of a duplicate the younger of the two; the other is the older.
    listing_id uuid not null references listings,
    other_id uuid references listings,
    country text not null check (country ~ '^[A-Z]{2}$'),
    claimed_by uuid references users,
    claimed_until timestamptz,
    done_by uuid references users,
    done_at timestamptz,
    outcome text check (outcome in ('approved', 'rejected', 'dismissed', 'confirmed', 'gone')),
    created_at timestamptz not null default now(),
    check ((kind = 'duplicate') = (other_id is not null)),
    check ((claimed_by is null) = (claimed_until is null)),
    check ((done_at is null) = (outcome is null))
);
create unique index moderation_items_open on moderation_items (listing_id, kind, other_id) nulls not distinct
    where done_at is null;
create index moderation_items_other on moderation_items (other_id) where done_at is null and other_id is not null;
create index moderation_items_waiting on moderation_items (created_at, id) where done_at is null;

-- Whether it is on the market, or about to be.
create function is_on_offer(listing listings) returns boolean language sql immutable parallel safe
return listing.deleted_at is null
    and listing.status in ('pending_review', 'coming_soon', 'active', 'under_offer', 'reserved', 'paused');

-- What about this listing is for a moderator to decide: an item should be open for each of these, and for nothing else.
create function moderation_wanted(listing uuid)
returns table (kind text, listing_id uuid, other_id uuid, country text)
language sql stable as $$
select 'review', id, null::uuid, country
from listings where id = listing and status = 'pending_review' and deleted_at is null
union all
select 'reports', id, null, country
from listings where id = listing and deleted_at is null
    and exists (select from reports where reports.listing_id = listing and state = 'open')
union all
select 'duplicate', younger.id, older.id, younger.country
from duplicates as pair
join listings as younger on younger.id in (pair.listing_id, pair.other_id)
join listings as older on older.id in (pair.listing_id, pair.other_id)
where (pair.listing_id = listing or pair.other_id = listing) and state = 'candidate'
  and (older.created_at, older.id) < (younger.created_at, younger.id)
  and is_on_offer(younger) and is_on_offer(older)
$$;

create function moderation_item_body(item moderation_items) returns jsonb language sql stable
return jsonb_build_object(
    'id', item.id, 'kind', item.kind, 'listing_id', item.listing_id, 'other_id', item.other_id,
    'listing_kind', (select kind from listings where listings.id = item.listing_id),
    'listing_title', (select title from listings where listings.id = item.listing_id),
    'claimed_by', item.claimed_by, 'claimed_until', utc(item.claimed_until), 'created_at', utc(item.created_at));

-- A report as whoever sent it gets it; moderators get more.
create function report_body(report reports) returns jsonb language sql stable parallel safe
return jsonb_build_object(
    'id', report.id, 'listing_id', report.listing_id, 'reason', report.reason, 'text', report.text,
    'created_at', utc(report.created_at));

-- The bands under which every hash stands that differs from this one in at most four bits. With three or fewer, one of
-- the four bands is the same; with four it may be that each band differs in one bit, the first band too.
create function hash_neighbours(hash bigint) returns int[] language sql immutable parallel safe strict
return hash_bands(hash)
    || array(select (hash & 65535)::int # (1 << bit) from generate_series(0, 15) as flipped (bit));

-- Between two places on the map; good for short distances.
create function metres_between(latitude double precision, longitude double precision,
                               other_latitude double precision, other_longitude double precision)
returns double precision language sql immutable parallel safe strict
return 6371000 * sqrt(radians(other_latitude - latitude) ^ 2
    + (radians(other_longitude - longitude) * cos(radians((latitude + other_latitude) / 2))) ^ 2);

insert into moderation_items (kind, listing_id, country, created_at)
select 'review', id, country, updated_at from listings where status = 'pending_review' and deleted_at is null;
