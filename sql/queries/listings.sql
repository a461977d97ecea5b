-- Listings of all kinds, with what they are as properties or vehicles. Deleted ones stay as rows and are seen by nobody.

-- name: list_listings
-- The market for everyone, newest first, of the kinds $1, and how many there are, counted no further than $4. The
-- place in the list is found in the index; only the texts of the page itself are read.
with page as materialized (
    select id, published_at from listings
    where kind = any ($1::text[]) and status = 'active' and deleted_at is null /* filters */
    order by published_at desc, id desc
    offset $2 limit $3
)
select (select count(*) from (
            select from listings
            where kind = any ($1::text[]) and status = 'active' and deleted_at is null /* filters */
            limit $4) as counted)::int as total,
       json_list(array(
           select document from shown_listings(
               array(select id from page order by published_at desc, id desc), $5, $6) order by place)) as body
-- filter: property_types
-- Of one of these types.
and exists (select from properties where properties.id = listings.id and property_type = any ($value::text[]))
-- filter: bedrooms
-- With one of these numbers of bedrooms.
and exists (select from properties where properties.id = listings.id and bedrooms = any ($value::int[]))
-- filter: brand
-- Of that make, however it is written.
and exists (select from vehicles where vehicles.id = listings.id and lower(brand) = lower($value))
-- filter: model
-- That model, however it is written.
and exists (select from vehicles where vehicles.id = listings.id and lower(model) = lower($value))
-- filter: fuels
-- Driven by one of these.
and exists (select from vehicles where vehicles.id = listings.id and fuel = any ($value::text[]))
-- filter: transmission
-- With that gearbox.
and exists (select from vehicles where vehicles.id = listings.id and transmission = $value)
-- filter: year_min
-- Built then or later.
and exists (select from vehicles where vehicles.id = listings.id and year >= $value)
-- filter: year_max
-- Built then or earlier.
and exists (select from vehicles where vehicles.id = listings.id and year <= $value)
-- filter: mileage_max
-- Driven no further.
and exists (select from vehicles where vehicles.id = listings.id and mileage_km <= $value)
-- filter: listing_type
-- For sale, or to rent.
and listing_type = $value
-- filter: currency
-- Prices are compared within one currency.
and currency = $value
-- filter: price_min
-- Not cheaper.
and price >= $value
-- filter: price_max
-- Not dearer.
and price <= $value
-- filter: city
-- There, by any of the place's names, or as the seller wrote it.
and (place_key(city) = place_key($value) or place_id in (
    with recursive inside as (
        select place_id as id from place_names where place_key(name) = place_key($value)
        union select places.id from places join inside on parent_id = inside.id
    )
    select id from inside))
-- filter: search
-- Where the words stand as they were typed.
and (title ilike $value or description ilike $value or neighborhood ilike $value)
-- filter: owner
-- What that person offers.
and owner_id = $value;

-- name: featured_listings
-- What is put forward, newest first.
select json_list(array(
    select document from shown_listings(array(
        select id from listings
        where kind = any ($1::text[]) and is_featured and status = 'active' and deleted_at is null
        order by published_at desc, id desc limit $2), $3, $4) order by place)) as body;

-- name: trending_listings
-- What is looked at, saved and asked about most, of late.
select json_list(array(
    select document from shown_listings(array(
        select listings.id from listing_stats join listings using (id)
        where kind = any ($1::text[]) and status = 'active' and deleted_at is null
        order by heat desc, listings.id desc limit $2), $3, $4) order by place)) as body;

-- name: similar_listings
-- What somebody who looks at this may also look at: the same kind and trade in the same city, and of these the nearest
-- in price. No row if the listing is not there for the viewer ($3).
select json_list(array(
    select document from shown_listings(array(
        select other.id
        from listings as other
        left join properties as other_property on other_property.id = other.id
        left join vehicles as other_vehicle on other_vehicle.id = other.id
        where other.id <> listing.id and other.kind = listing.kind and other.status = 'active'
          and other.deleted_at is null and other.listing_type = listing.listing_type
          and other.currency = listing.currency and other.price between listing.price * 0.5 and listing.price * 2
          and (place_key(other.city) = place_key(listing.city) or listing.kind = 'vehicle')
        order by (other_property.property_type is not distinct from property.property_type
                  and lower(other_vehicle.brand) is not distinct from lower(vehicle.brand)) desc,
                 abs(ln(other.price / listing.price)), other.id
        limit $2), $3, $4) order by place)) as body
from listings as listing
left join properties as property on property.id = listing.id
left join vehicles as vehicle on vehicle.id = listing.id
where listing.id = $1 and listing.kind = any ($5::text[]) and listing.deleted_at is null
  and (listing.status = 'active' or listing.owner_id = $3);

-- name: get_listing
-- An active listing is for everyone, any other for its owner and the agents of its agency ($2, null: nobody).
select convert_to(document, 'UTF8') as body, version
from listings cross join shown_listings(array[listings.id], $2, $3) as shown
where listings.id = $1 and kind = any ($4::text[]) and deleted_at is null and (
    status = 'active' or owner_id = $2
    or exists (select from agent_profiles
               where user_id = $2 and agent_profiles.agency_id = listings.agency_id and deleted_at is null));

-- name: own_listing
-- A listing as its owner gets it after changing it, whatever its status.
select convert_to(document, 'UTF8') as body, version
from listings cross join shown_listings(array[listings.id], owner_id, $2) as shown where listings.id = $1;

-- name: find_state
-- Why a change did not take place: whose it is, and where it stands.
select owner_id, status, version from listings where id = $1 and kind = any ($2::text[]) and deleted_at is null;

-- name: hold_posting
-- One person's postings come one after the other.
select true as held from pg_advisory_xact_lock(hashtextextended('posting ' || $1::uuid, 0));

-- name: posted_since
-- Whether this person has offered something after that moment.
select exists (select from listings where owner_id = $1 and created_at > $2) as posted;

-- name: add_listings
-- A listing and what it is as a property or a vehicle are one thing and come together, many in one statement. A unit
-- that is on offer already gets no row.
with wish as materialized (
    select uuidv7() as id, place, kind, fields, status, expires_at, unit_hash
    from unnest($4::text[], $5::jsonb[], $6::text[], $7::timestamptz[], $8::bytea[]) with ordinality
        as sent (kind, fields, status, expires_at, unit_hash, place)
), listed as (
    insert into listings (id, kind, owner_id, agency_id, changed_by, created_at, updated_at, status, published_at,
                          expires_at, unit_hash, title, description, listing_type, price, price_type, price_period,
                          currency, address, neighborhood, city, region, place_id, latitude, longitude, amenities,
                          features, language, country)
    select wish.id, wish.kind, $1::uuid, $2::uuid, $1, $3::timestamptz, $3, wish.status,
           case when wish.status in ('active', 'coming_soon') then $3 end, wish.expires_at, wish.unit_hash,
           sent.title, sent.description, sent.listing_type, sent.price, sent.price_type,
           case when sent.listing_type = 'rent' then coalesce(sent.price_period, 'month') end,
           sent.currency, sent.address, sent.neighborhood, sent.city, sent.region,
           place_of(sent.country, sent.city, sent.neighborhood), sent.latitude, sent.longitude,
           sent.amenities, sent.features, sent.language, sent.country
    from wish, jsonb_populate_record(null::listings, wish.fields) as sent
    on conflict (coalesce(agency_id, owner_id), unit_hash) where deleted_at is null
        and status in ('pending_review', 'coming_soon', 'active', 'under_offer', 'reserved', 'paused') do nothing
    returning id
), property as (
    insert into properties (id, property_type, bedrooms, bathrooms, square_meters, lot_square_meters, floor, floors,
                            furnishing, condition, parking, available_from, year_built)
    select listed.id, property_type, bedrooms, bathrooms, square_meters, lot_square_meters, floor, floors,
           furnishing, condition, parking, available_from, year_built
    from listed join wish on wish.id = listed.id, jsonb_populate_record(null::properties, wish.fields)
    where wish.kind = 'property'
), vehicle as (
    insert into vehicles (id, brand, model, year, body, mileage_km, fuel, transmission, drive, engine_cc, battery_kwh,
                          range_km, seats, doors, color, condition, owners, first_registration, import_status)
    select listed.id, usual_brand(brand), usual_model(brand, model), year, body, mileage_km, fuel, transmission, drive,
           engine_cc, battery_kwh, range_km, seats, doors, color, condition, owners, first_registration, import_status
    from listed join wish on wish.id = listed.id, jsonb_populate_record(null::vehicles, wish.fields)
    where wish.kind = 'vehicle'
)
select (wish.place - 1)::int as place, wish.id from listed join wish on wish.id = listed.id;

-- name: change_listing
-- What $4 names changes, the rest stays; nobody but the owner gets a row, and only while it is the version $5 (null:
-- whichever) and its status may become the one that is wished for ($6: from where it may).
with listed as (
    update listings
    set (title, description, listing_type, price, price_type, price_period, currency, status, address, neighborhood,
         city, region, place_id, latitude, longitude, amenities, features, language, country) = (
            select title, description, listing_type, price, price_type,
                   case when listing_type = 'rent' then coalesce(price_period, 'month') end,
                   currency, status, address, neighborhood, city, region, place_of(country, city, neighborhood),
                   latitude, longitude, amenities, features, language, country
            from jsonb_populate_record(listings, $4)),
        unit_hash = case when $8 then $9::bytea else unit_hash end,
        published_at = case when $4 ->> 'status' in ('active', 'coming_soon') then coalesce(published_at, $3)
                            else published_at end,
        expires_at = case when $4 ->> 'status' = 'active' then coalesce(expires_at, $7) else expires_at end,
        closed_at = case when $4 ->> 'status' in ('sold', 'rented', 'leased') then coalesce(closed_at, $3)
                         when $4 ? 'status' then null else closed_at end,
        version = version + 1, updated_at = $3, changed_by = $2
    where id = $1 and owner_id = $2 and kind = any ($10::text[]) and deleted_at is null
      and ($5::int is null or version = $5)
      and (not $4 ? 'status' or status = $4 ->> 'status' or status = any ($6::text[]))
    returning new as listing, old as previous
), property as (
    update properties
    set (property_type, bedrooms, bathrooms, square_meters, lot_square_meters, floor, floors, furnishing, condition,
         parking, available_from, year_built) = (
            select property_type, bedrooms, bathrooms, square_meters, lot_square_meters, floor, floors, furnishing,
                   condition, parking, available_from, year_built
            from jsonb_populate_record(properties, $4))
    from listed where properties.id = (listing).id
), vehicle as (
    update vehicles
    set (brand, model, year, body, mileage_km, fuel, transmission, drive, engine_cc, battery_kwh, range_km, seats,
         doors, color, condition, owners, first_registration, import_status) = (
            select usual_brand(brand), usual_model(brand, model), year, body, mileage_km, fuel, transmission, drive,
                   engine_cc, battery_kwh, range_km, seats, doors, color, condition, owners, first_registration,
                   import_status
            from jsonb_populate_record(vehicles, $4))
    from listed where vehicles.id = (listing).id
)
select (listing).status, (listing).price, (listing).currency, (previous).status as previous_status,
       (previous).price as previous_price, (previous).currency as previous_currency
from listed;

-- name: delete_listing
-- Deleting keeps the row for what refers to it; nobody but the owner gets one.
update listings set deleted_at = $3, updated_at = $3, changed_by = $2, version = version + 1
where id = $1 and owner_id = $2 and kind = any ($4::text[]) and deleted_at is null
  and ($5::int is null or version = $5)
returning id;

-- name: public_listings
-- Which of these everybody may see.
select id from listings where id = any ($1::uuid[]) and status = 'active' and deleted_at is null;

-- name: find_offer
-- What other features need to know of any listing that is not deleted.
select id, owner_id, agency_id, kind, status, price, currency, city
from listings where id = $1 and deleted_at is null;
