-- The whole of a listing: its life, its vehicle or property in full, its images, what changed when, and its ready texts.

alter table listings
    add column version int not null default 1,
    -- Who made the newest change; null: the service itself.
    add column changed_by uuid references users,
    add column price_type text not null default 'fixed' check (price_type in ('fixed', 'negotiable')),
    add column price_period text check (price_period in ('day', 'week', 'month', 'year')),
    add column region text check (length(region) between 1 and 200),
    add column place_id int references places,
    add column amenities text[] not null default '{}' check (cardinality(amenities) <= 50),
    add column features text[] not null default '{}' check (cardinality(features) <= 50),
    add column expires_at timestamptz,
    add column warned_at timestamptz,
    add column renewals int not null default 0 check (renewals >= 0),
    add column closed_at timestamptz,
    add column closed_price numeric(14, 2) check (closed_price > 0),
    add column review_reason text check (length(review_reason) between 1 and 1000),
    -- The very thing that is offered: of a vehicle identification number, or of what the land register says.
    add column unit_hash bytea check (length(unit_hash) = 32),
    -- The listing this one repeats.
    add column canonical_id uuid references listings check (canonical_id <> id);

update listings set published_at = created_at where published_at is null and status not in ('draft', 'pending_review');
update listings set price_period = 'month' where listing_type = 'rent';
-- As if they had been published now: their owners are warned in time.
update listings set expires_at = now() + interval '60 days' where status = 'active';
update listings set place_id = place_of(country, city, neighborhood);
alter table listings
    add check ((listing_type = 'rent') = (price_period is not null)),
    add check (status <> 'active' or published_at is not null);

drop index listings_newest;
create index listings_newest on listings (kind, published_at desc, id desc)
    where status = 'active' and deleted_at is null;
create index listings_newest_of_all on listings (published_at desc, id desc)
    where status = 'active' and deleted_at is null;
create index listings_priced on listings (kind, listing_type, currency, price)
    where status = 'active' and deleted_at is null;
-- What no gazetteer knows is found by its words.
create index listings_elsewhere on listings (place_key(city))
    where place_id is null and status = 'active' and deleted_at is null;
create index listings_place on listings (place_id, published_at desc) where status = 'active' and deleted_at is null;
create index listings_featured on listings (kind, published_at desc, id desc)
    where is_featured and status = 'active' and deleted_at is null;
create index listings_expiry on listings (expires_at) where status = 'active' and deleted_at is null;
create index listings_review on listings (updated_at, id) where status = 'pending_review' and deleted_at is null;
create index listings_near on listings (latitude, longitude) where deleted_at is null and latitude is not null;
-- An agency, or an owner without one, offers a unit once.
create unique index listings_unit on listings (coalesce(agency_id, owner_id), unit_hash)
    where deleted_at is null
      and status in ('pending_review', 'coming_soon', 'active', 'under_offer', 'reserved', 'paused');
create index listings_units on listings (unit_hash) where unit_hash is not null and deleted_at is null;

alter table properties
    add column lot_square_meters numeric(12, 2) check (lot_square_meters > 0),
    add column floor int check (floor between -10 and 200),
    add column floors int check (floors between 1 and 200),
    add column furnishing text check (furnishing in ('unfurnished', 'semi_furnished', 'furnished')),
    add column condition text check (condition in ('new', 'good', 'needs_renovation', 'under_construction')),
    add column parking int check (parking between 0 and 1000),
    add column available_from date,
    -- What stands in a listing's texts may come before it within one transaction, so that they are written once.
    alter constraint properties_id_fkey deferrable;

create table vehicles (
    id uuid primary key references listings deferrable,
    brand text not null check (length(brand) between 1 and 100),
    model text not null check (length(model) between 1 and 100),
    year int not null check (year between 1900 and 2100),
    body text check (body in ('sedan', 'hatchback', 'suv', 'pickup', 'van', 'minibus', 'bus', 'truck', 'coupe',
                              'convertible', 'wagon', 'motorcycle', 'three_wheeler', 'machinery')),
    mileage_km int check (mileage_km between 0 and 5000000),
    fuel text check (fuel in ('petrol', 'diesel', 'electric', 'hybrid', 'plug_in_hybrid', 'gas')),
    transmission text check (transmission in ('manual', 'automatic')),
    drive text check (drive in ('front', 'rear', 'four_wheel')),
    engine_cc int check (engine_cc between 20 and 30000),
    battery_kwh numeric(6, 1) check (battery_kwh > 0),
    range_km int check (range_km between 1 and 5000),
    seats int check (seats between 1 and 100),
    doors int check (doors between 0 and 10),
    color text check (length(color) between 1 and 50),
    condition text check (condition in ('new', 'used', 'damaged')),
    owners int check (owners between 0 and 100),
    first_registration date,
    import_status text check (import_status in ('local', 'duty_paid', 'duty_free', 'duty_unpaid'))
);
create index vehicles_model on vehicles (lower(brand), lower(model), year);

create table images (
    id uuid primary key default uuidv7(),
    listing_id uuid not null references listings deferrable,
    media_id uuid not null references media,
    is_primary boolean not null default false,
    display_order int not null check (display_order >= 0),
    created_at timestamptz not null default now(),
    unique (listing_id, media_id),
    -- One primary at most, looked at when a statement ends: it may have made another one primary.
    constraint images_primary exclude using btree (listing_id with =) where (is_primary) deferrable
);
create index images_media on images (media_id);

-- Counters stand apart, so that a view touches neither the listing nor its texts.
create table listing_stats (
    id uuid primary key references listings,
    view_count bigint not null default 0 check (view_count >= 0),
    save_count int not null default 0 check (save_count >= 0),
    -- The logarithm of its views, saves and leads, each weighing more the later it came (forward decay, Cormode et al.
    -- 2009): the order never changes while nothing happens, so it can stand in an index.
    heat double precision not null default '-infinity'
);
create index listing_stats_heat on listing_stats (heat desc);
drop function property_body;
insert into listing_stats (id, view_count) select id, view_count from listings where view_count > 0;
alter table listings drop column view_count;

create function more_heat(heat double precision, weight double precision, at timestamptz) returns double precision
language sql immutable parallel safe strict as $$
-- A day and a half after it came an event weighs half. log(a + b) without leaving the logarithms.
with event as (select ln(weight) + extract(epoch from at) / (36 * 3600 / ln(2)) as log)
select greatest(heat, log) + ln(1 + exp(least(heat, log) - greatest(heat, log))) from event
$$;

-- What a listing was before each change, field by field.
create table listing_history (
    id bigint generated always as identity primary key,
    listing_id uuid not null references listings,
    version int not null,
    at timestamptz not null,
    changed_by uuid references users,
    field text not null,
    before jsonb,
    after jsonb
);
create index listing_history_listing on listing_history (listing_id, id);

create function note_history() returns trigger language plpgsql as $$
begin
    insert into listing_history (listing_id, version, at, changed_by, field, before, after)
    select listing.id, listing.version, listing.updated_at, listing.changed_by, field.key,
           nullif(old_fields.fields -> field.key, 'null'), nullif(field.value, 'null')
    from (select id, to_jsonb(later) as fields from later) as new_fields
    join (select id, to_jsonb(earlier) as fields from earlier) as old_fields using (id)
    join listings as listing using (id)
    cross join lateral jsonb_each(new_fields.fields) as field
    where field.value is distinct from old_fields.fields -> field.key
      -- Why it was rejected is for its owner and for moderators; others see the history too.
      and field.key not in ('version', 'changed_by', 'updated_at', 'warned_at', 'unit_hash', 'review_reason')
    order by listing.id, field.key;
    return null;
end
$$;
create trigger listings_history after update on listings
    referencing old table as earlier new table as later for each statement execute function note_history();
create trigger properties_history after update on properties
    referencing old table as earlier new table as later for each statement execute function note_history();
create trigger vehicles_history after update on vehicles
    referencing old table as earlier new table as later for each statement execute function note_history();

-- The name of a status in the RESO Data Dictionary (StandardStatus); null where it has none. Not strict, or it could not
-- be a part of what calls it.
create function standard_status(status text) returns text language sql immutable parallel safe
return case status
    when 'draft' then 'Incomplete' when 'pending_review' then 'Incomplete'
    when 'coming_soon' then 'ComingSoon' when 'active' then 'Active' when 'under_offer' then 'ActiveUnderContract'
    when 'reserved' then 'Pending' when 'paused' then 'Hold' when 'withdrawn' then 'Withdrawn'
    when 'cancelled' then 'Canceled' when 'expired' then 'Expired'
    when 'sold' then 'Closed' when 'rented' then 'Closed' when 'leased' then 'Closed' end;

-- The ready texts, open at their end: a read appends what is not the listing's own, and a brace.
create table listing_texts (
    id uuid primary key references listings,
    card text not null,
    document text not null
);

-- An image as JSON. A control character stands for the address of the media, which no JSON text contains by itself.
create function image_text(image images, picture media) returns text language sql stable parallel safe
return left(jsonb_build_object(
        'id', image.id, 'is_primary', image.is_primary, 'display_order', image.display_order,
        'width', picture.width, 'height', picture.height, 'color', picture.color, 'blurhash', picture.blurhash,
        'created_at', utc(image.created_at))::text, -1)
    || ', "url": "' || chr(1) || media_key(picture.id, 'large')
    || '", "medium_url": "' || chr(1) || media_key(picture.id, 'medium')
    || '", "small_url": "' || chr(1) || media_key(picture.id, 'small') || '"}';

create function listing_fields(listing listings) returns jsonb language sql stable parallel safe
return jsonb_build_object(
    'id', listing.id, 'kind', listing.kind, 'user_id', listing.owner_id, 'agency_id', listing.agency_id,
    'title', listing.title, 'description', listing.description, 'listing_type', listing.listing_type,
    'price', listing.price, 'price_type', listing.price_type, 'price_period', listing.price_period,
    'currency', listing.currency, 'status', listing.status, 'standard_status', standard_status(listing.status),
    'address', listing.address, 'neighborhood', listing.neighborhood, 'city', listing.city, 'region', listing.region,
    'latitude', listing.latitude, 'longitude', listing.longitude,
    'amenities', listing.amenities, 'features', listing.features, 'is_featured', listing.is_featured,
    'language', listing.language, 'country', listing.country, 'version', listing.version,
    'canonical_id', listing.canonical_id, 'published_at', utc(listing.published_at),
    'expires_at', utc(listing.expires_at), 'closed_at', utc(listing.closed_at),
    'created_at', utc(listing.created_at), 'updated_at', utc(listing.updated_at));

create function listing_card(listing listings, detail jsonb) returns jsonb language sql stable parallel safe
return jsonb_build_object(
    'id', listing.id, 'kind', listing.kind, 'user_id', listing.owner_id, 'title', listing.title,
    'listing_type', listing.listing_type, 'price', listing.price, 'price_type', listing.price_type,
    'price_period', listing.price_period, 'currency', listing.currency, 'status', listing.status,
    'neighborhood', listing.neighborhood, 'city', listing.city,
    'latitude', listing.latitude, 'longitude', listing.longitude, 'is_featured', listing.is_featured,
    'published_at', utc(listing.published_at)) || case listing.kind
    when 'property' then jsonb_build_object(
        'property_type', detail -> 'property_type', 'bedrooms', detail -> 'bedrooms',
        'bathrooms', detail -> 'bathrooms', 'square_meters', detail -> 'square_meters')
    else jsonb_build_object(
        'brand', detail -> 'brand', 'model', detail -> 'model', 'year', detail -> 'year',
        'mileage_km', detail -> 'mileage_km', 'fuel', detail -> 'fuel', 'transmission', detail -> 'transmission')
    end;

-- The texts of these listings as they follow from what is stored now. "offset 0" has each costly part made once, though
-- it is used twice; the document is put together from texts, as joining jsonb would copy it.
create function built_texts(wanted uuid[]) returns table (id uuid, card text, document text)
language sql stable as $$
select listing.id,
       left(listing_card(listing, detail.fields)::text, -1) || ', "image": ' || coalesce(pictures.first, 'null'),
       left(listing_fields(listing)::text, -1) || coalesce(', ' || substr(left(detail.fields::text, -1), 2), '')
           || ', "images": [' || coalesce(pictures.all_of_them, '') || ']'
from unnest(wanted) as asked (id)
join listings as listing using (id)
left join properties as property using (id)
left join vehicles as vehicle using (id)
cross join lateral (
    select (case listing.kind when 'property' then to_jsonb(property) else to_jsonb(vehicle) end) - 'id' offset 0
) as detail (fields)
left join lateral (
    select string_agg(text, ', '), coalesce(max(text) filter (where is_primary), min(text) filter (where place = 1))
    from (
        select is_primary, image_text(image, media) as text,
               row_number() over (order by display_order, image.id) as place
        from images as image join media on media.id = media_id where listing_id = listing.id
        order by display_order, image.id offset 0) as picture
) as pictures (all_of_them, first) on true
$$;

create function write_listing_texts(changed uuid[]) returns void language sql as $$
insert into listing_texts (id, card, document) select id, card, document from built_texts(changed)
on conflict (id) do update set card = excluded.card, document = excluded.document
$$;

-- Runs at the end of the statement, so it sees all that the statement did, to the images too.
create function write_texts_of_changed() returns trigger language plpgsql as $$
begin
    perform write_listing_texts(array(select id from later order by id));
    return null;
end
$$;
create trigger listings_texts_of_new after insert on listings
    referencing new table as later for each statement execute function write_texts_of_changed();
create trigger listings_texts_of_changed after update on listings
    referencing new table as later for each statement execute function write_texts_of_changed();

-- A text as it goes out. `host` is the address of the media, the rest is not the listing's own.
create function finished(open_text text, host text, views bigint, saves int, is_saved boolean, agent text)
returns text language sql stable parallel safe
return replace(open_text, chr(1), host) || ', "view_count": ' || coalesce(views, 0)::text
    || ', "save_count": ' || coalesce(saves, 0)::text || ', "saved": ' || is_saved::text
    || ', "agent": ' || coalesce(agent, 'null') || '}';

do $$ begin perform write_listing_texts(array(select id from listings)); end $$;
