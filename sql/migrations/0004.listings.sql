-- Everything offered: listings hold what all kinds share, properties what only they have, under the same id.

create table listings (
    id uuid primary key default uuidv7(),
    kind text not null check (kind in ('property', 'vehicle')),
    owner_id uuid not null references users,
    agency_id uuid references agencies,
    title text not null check (length(title) between 1 and 200),
    description text check (length(description) between 1 and 4000),
    listing_type text not null check (listing_type in ('sale', 'rent')),
    price numeric(14, 2) not null check (price > 0),
    currency text not null default 'ETB' check (currency ~ '^[A-Z]{3}$'),
    status text not null default 'active' check (status in (
        'draft', 'pending_review', 'coming_soon', 'active', 'under_offer', 'reserved', 'paused', 'withdrawn',
        'cancelled', 'expired', 'sold', 'rented', 'leased', 'rejected')),
    address text check (length(address) between 1 and 200),
    neighborhood text check (length(neighborhood) between 1 and 200),
    city text not null check (length(city) between 1 and 200),
    latitude double precision check (latitude between -90 and 90),
    longitude double precision check (longitude between -180 and 180),
    view_count bigint not null default 0 check (view_count >= 0),
    is_featured boolean not null default false,
    language text not null default 'en' check (language ~ '^[a-z]{2}$'),
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    published_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    check ((latitude is null) = (longitude is null))
);
-- The public lists, one a kind. A page far down is found in the index alone.
create index listings_newest on listings (kind, created_at desc, id desc)
    where status = 'active' and deleted_at is null;
create index listings_owner on listings (owner_id, created_at desc) where deleted_at is null;
create index listings_agency on listings (agency_id, created_at desc)
    where agency_id is not null and deleted_at is null;

create table properties (
    id uuid primary key references listings,
    property_type text not null check (property_type in (
        'house', 'apartment', 'townhouse', 'land', 'commercial', 'office', 'condo', 'villa', 'room')),
    bedrooms int check (bedrooms between 0 and 100),
    bathrooms int check (bathrooms between 0 and 100),
    square_meters numeric(10, 2) check (square_meters > 0),
    year_built int check (year_built between 1800 and 2100)
);

-- A property as clients get it: the one rendering for lists, single reads and answers to writes.
create function property_body(listing listings, property properties) returns jsonb
language sql stable parallel safe
return jsonb_build_object(
    'id', listing.id, 'user_id', listing.owner_id, 'agency_id', listing.agency_id,
    'title', listing.title, 'description', listing.description,
    'property_type', property.property_type, 'listing_type', listing.listing_type,
    'price', listing.price, 'currency', listing.currency, 'status', listing.status,
    'bedrooms', property.bedrooms, 'bathrooms', property.bathrooms,
    'square_meters', property.square_meters, 'year_built', property.year_built,
    'address', listing.address, 'neighborhood', listing.neighborhood, 'city', listing.city,
    'latitude', listing.latitude, 'longitude', listing.longitude,
    'view_count', listing.view_count, 'is_featured', listing.is_featured,
    'language', listing.language, 'country', listing.country,
    'created_at', utc(listing.created_at), 'updated_at', utc(listing.updated_at));
