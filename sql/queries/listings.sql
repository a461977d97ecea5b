-- Listings of all kinds, with what they are as properties or vehicles. Deleted ones stay as rows and are seen by nobody.

-- name: list_listings
-- The market for everyone, newest first, and how many there are, counted no further than $3. The place in the list is
-- found in the index; only the texts of the page itself are read.
with page as materialized (
    select id, published_at from listings
    where status = 'active' and deleted_at is null /* filters */
    order by published_at desc, id desc
    offset $1 limit $2
)
select (select count(*) from (
            select from listings where status = 'active' and deleted_at is null /* filters */ limit $3) as counted)::int
           as total,
       json_list(array(
           select document from shown_listings(
               array(select id from page order by published_at desc, id desc), $4, $5) order by place)) as body
-- filter: kind
-- Of one kind; a list of kinds would not be in the order of the index.
and kind = $value
-- filter: property_types
-- Of one of these types.
and exists (select from properties where properties.id = listings.id and property_type = any ($value::text[]))
-- filter: bedrooms
-- With one of these numbers of bedrooms.
and exists (select from properties where properties.id = listings.id and bedrooms = any ($value::int[]))
-- filter: brand
-- Of that make, however it is written.
and exists (select from vehicles where vehicles.id = listings.id and lower(brand) = (select lower(usual_brand($value))))
-- filter: model
-- That model, however it is written.
and exists (select from vehicles where vehicles.id = listings.id and brand_key(model) = (select brand_key($value)))
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
-- There, by any of the place's names; what no gazetteer knows, as the seller wrote it.
and (place_id = any (array(select places_within($value)))
     or place_id is null and place_key(city) = (select place_key($value)))
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
-- What somebody who looks at this may also look at: the same kind and trade, a property in the same city, and of these
-- the likest and nearest in price. Looked for among the newest of the same place and those with about the same price,
-- some hundreds each, however large the market is. No row if the listing is not there for the viewer ($3).
with this as materialized (
    select listings.*, property_type, lower(brand) as brand
    from listings
    left join properties on properties.id = listings.id
    left join vehicles on vehicles.id = listings.id
    where listings.id = $1 and kind = any ($5::text[]) and deleted_at is null and (status = 'active' or owner_id = $3)
), candidates as materialized (
    select near.id from this cross join lateral (
        select id from listings where place_id = this.place_id and status = 'active' and deleted_at is null
        order by published_at desc limit 400) as near
    union
    select dearer.id from this cross join lateral (
        select id from listings
        where (kind, listing_type, currency) = (this.kind, this.listing_type, this.currency) and price >= this.price
          and status = 'active' and deleted_at is null
        order by price limit 200) as dearer
    union
    select cheaper.id from this cross join lateral (
        select id from listings
        where (kind, listing_type, currency) = (this.kind, this.listing_type, this.currency) and price < this.price
          and status = 'active' and deleted_at is null
        order by price desc limit 200) as cheaper
)
select json_list(array(
    select document from shown_listings(array(
        select other.id
        from candidates
        join listings as other using (id)
        left join properties on properties.id = other.id
        left join vehicles on vehicles.id = other.id
        where other.id <> this.id and (other.kind, other.listing_type, other.currency)
              = (this.kind, this.listing_type, this.currency)
          and other.price between this.price * 0.5 and this.price * 2
          and (this.kind = 'vehicle' or place_key(other.city) = place_key(this.city))
        order by (properties.property_type is not distinct from this.property_type
                  and lower(vehicles.brand) is not distinct from this.brand) desc,
                 abs(ln(other.price / this.price)), other.id
        limit $2), $3, $4) order by place)) as body
from this;

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

-- name: hold_listing
-- Whose it is and where it stands; nobody else changes what it owns before the transaction ends.
select owner_id, status, version from listings
where id = $1 and kind = any ($2::text[]) and deleted_at is null for update;

-- name: listing_images
-- The pictures of a listing in their order.
select images.id, media_id, sha256, is_primary
from images join media on media.id = media_id where listing_id = $1 order by display_order, images.id;

-- name: arrange_images
-- The pictures of a listing are these ($2, in their order) and no others, and $3 is the primary one.
with wanted as (
    select media_id, (place - 1)::int as display_order, media_id = $3 as is_primary
    from unnest($2::uuid[]) with ordinality as sent (media_id, place)
), gone as (
    delete from images where listing_id = $1 and media_id <> all ($2::uuid[])
), placed as (
    update images set display_order = wanted.display_order, is_primary = wanted.is_primary
    from wanted
    where listing_id = $1 and images.media_id = wanted.media_id
      and (images.display_order, images.is_primary) is distinct from (wanted.display_order, wanted.is_primary)
), added as (
    insert into images (listing_id, media_id, is_primary, display_order, created_at)
    select $1::uuid, media_id, is_primary, display_order, $5::timestamptz from wanted
    where not exists (select from images where listing_id = $1 and images.media_id = wanted.media_id)
)
update listings set version = version + 1, updated_at = $5, changed_by = $4 where id = $1;

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
-- whichever) and its status may become the one that is wished for ($6: from where it may). What was rejected, or with
-- reviews on ($11) was never public, does not become so by its owner's wish, whatever its way.
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
      and (not $4 ? 'status' or status = $4 ->> 'status' or status = any ($6::text[])
           and ($4 ->> 'status' not in ('active', 'coming_soon')
                or review_reason is null and (published_at is not null or not $11)))
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
-- Deleting keeps the row for what refers to it, but not its pictures, which nothing refers to then and so are collected.
-- Nobody but the owner gets a row.
with gone as (
    update listings set deleted_at = $3, updated_at = $3, changed_by = $2, version = version + 1
    where id = $1 and owner_id = $2 and kind = any ($4::text[]) and deleted_at is null
      and ($5::int is null or version = $5)
    returning id
), pictures as (
    delete from images using gone where listing_id = gone.id
)
select id from gone;

-- name: public_listings
-- Which of these everybody may see.
select id from listings where id = any ($1::uuid[]) and status = 'active' and deleted_at is null;

-- name: find_offer
-- What other features need to know of any listing that is not deleted.
select id, owner_id, agency_id, kind, status, price, currency, city
from listings where id = $1 and deleted_at is null;

-- name: count_views
-- Everybody who looked at once, in one statement; what is not public, or not of the kind it was asked for as ($2, empty:
-- whichever), is not counted.
with seen as (
    select listing_id as id, count(*) as views
    from unnest($1::uuid[], $2::text[]) as looked (listing_id, wanted) join listings on listings.id = listing_id
    where wanted in (kind, '') and status = 'active' and deleted_at is null
    group by listing_id order by listing_id
)
insert into listing_stats as stats (id, view_count, heat)
select id, views, more_heat('-infinity', views, $3) from seen
on conflict (id) do update
    set view_count = stats.view_count + excluded.view_count,
        heat = more_heat(stats.heat, excluded.view_count, $3)
returning id, view_count, (select kind from listings where listings.id = stats.id) as kind;

-- name: view_counts
-- How often these were looked at, as far as they are public.
select listings.id, coalesce(view_count, 0) as view_count, kind
from listings left join listing_stats using (id)
where listings.id = any ($1::uuid[]) and status = 'active' and deleted_at is null;

-- name: count_save
-- Somebody saved it ($2: 1) or does so no longer (-1). A save says more than a view.
insert into listing_stats as stats (id, save_count, heat)
values ($1, greatest(0, $2::int), case when $2 > 0 then more_heat('-infinity', 5, $3) else '-infinity' end)
on conflict (id) do update
    set save_count = greatest(0, stats.save_count + $2),
        heat = case when $2 > 0 then more_heat(stats.heat, 5, $3) else stats.heat end
returning save_count;

-- name: renew_listing
-- One more time in public for what is or was, at most $5 times; nobody but the owner gets a row.
update listings
set status = 'active', expires_at = $4, warned_at = null, renewals = renewals + 1,
    version = version + 1, updated_at = $3, changed_by = $2
where id = $1 and owner_id = $2 and kind = any ($6::text[]) and deleted_at is null
  and status in ('active', 'expired') and renewals < $5
returning new.status, new.price, new.currency, old.status as previous_status, old.price as previous_price,
          old.currency as previous_currency;

-- name: expire_listings
-- What has been public for its time is so no longer; a handful at once, so that nobody waits long for a row.
with due as (
    select id from listings where status = 'active' and deleted_at is null and expires_at <= $1
    order by expires_at, id limit $2 for update skip locked
)
update listings set status = 'expired', version = version + 1, updated_at = $1, changed_by = null
from due where listings.id = due.id
returning listings.id, owner_id;

-- name: warn_owners
-- Whose listing ends soon is told once.
with due as (
    select id from listings
    where status = 'active' and deleted_at is null and expires_at > $1 and expires_at <= $2 and warned_at is null
    order by expires_at, id limit $3 for update skip locked
)
update listings set warned_at = $1 from due where listings.id = due.id
returning listings.id, owner_id, expires_at;

-- name: list_history
-- What changed in a listing, newest first, for its owner ($2) and the agents of its agency. Who of the staff did
-- something does not concern them.
select coalesce(jsonb_agg(jsonb_build_object(
           'version', version, 'at', utc(at), 'changed_by', case when changed_by = owner_id then changed_by end,
           'field', field, 'before', before, 'after', after) order by id desc), '[]') as body
from (
    select history.*, owner_id from listing_history as history join listings on listings.id = listing_id
    where listing_id = $1 and deleted_at is null and (owner_id = $2 or exists (
        select from agent_profiles
        where user_id = $2 and agent_profiles.agency_id = listings.agency_id and deleted_at is null))
    order by history.id desc offset $3 limit $4) as part;

-- name: price_history
-- What was asked for it in public, oldest first, the last $2 prices: when it was published, and after each change.
with changes as (
    select min(id) as id, min(at) as at,
           min(before #>> '{}') filter (where field = 'price') as price_before,
           min(after #>> '{}') filter (where field = 'price') as price,
           min(before #>> '{}') filter (where field = 'currency') as currency_before,
           min(after #>> '{}') filter (where field = 'currency') as currency
    from listing_history where listing_id = $1 and field in ('price', 'currency') group by version
), steps as (
    select id, at, price, currency from changes
    union all
    -- At first it was what the first change of it found, or what it is now.
    select 0, created_at,
           coalesce((select price_before from changes where price_before is not null order by id limit 1), price::text),
           coalesce((select currency_before from changes where currency_before is not null order by id limit 1), currency)
    from listings where id = $1
), asked as (
    -- What a change does not name is as it was before.
    select id, at, lead(at) over (order by id) as until,
           first_value(price) over (partition by prices order by id) as price,
           first_value(currency) over (partition by currencies order by id) as currency
    from (select *, count(price) over (order by id) as prices, count(currency) over (order by id) as currencies
          from steps) as counted
), public as (
    select asked.id, greatest(at, coalesce(published_at, at)) as at, asked.price, asked.currency
    from asked cross join listings
    where listings.id = $1 and (until is null or published_at is null or until > published_at)
    order by asked.id desc limit $2
)
select coalesce(jsonb_agg(jsonb_build_object('at', utc(at), 'price', price::numeric, 'currency', currency)
                          order by id), '[]') as body
from public;

-- name: any_listing
-- Whether anything was ever offered here.
select exists (select from listings) as found;

-- name: load_stats
-- The counters of listings of a made-up market: as if the views, and saves five times as weighty, had come at one moment.
insert into listing_stats (id, view_count, save_count, heat)
select id, views, saves, more_heat('-infinity', views + 5 * saves, at)
from unnest($1::uuid[], $2::bigint[], $3::int[], $4::timestamptz[]) as counted (id, views, saves, at);

-- name: my_listings
-- All that somebody offers, the newest first, after the place ($2, $3; null: from the start), with what is for its owner
-- alone. One more than is shown says whether there is more.
with page as materialized (
    select id, created_at, review_reason, row_number() over (order by created_at desc, id desc) as number
    from (
        select id, created_at, review_reason from listings
        where owner_id = $1 and deleted_at is null
          and (created_at, id) < (coalesce($2::timestamptz, 'infinity'),
                                  coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')) /* filters */
        order by created_at desc, id desc limit $4::int + 1) as newest
)
select json_list(array(
           select left(document, -1) || ', "review_reason": ' || coalesce(to_jsonb(review_reason)::text, 'null') || '}'
           from shown_listings(array(select id from page where number <= $4 order by number), $1, $5)
           join page using (id) order by place)) as items,
       last.created_at, last.id
from (select) as always
left join page as last on number = $4 and exists (select from page where number > $4)
-- filter: status
-- Of one status.
and status = $value;

-- name: review_listings
-- What becomes of each of these at the word of a reviewer ($5): it moves to the status $2 if it stands at one of $3, is
-- there already, or cannot go there; nor if the same unit is on offer again meanwhile. No row for what is not there.
with held as materialized (
    select id, owner_id, status, coalesce(agency_id, owner_id) as seller, unit_hash
    from listings where id = any ($1::uuid[]) and deleted_at is null order by id for no key update
), judged as materialized (
    select id, owner_id, case
        when status = $2 then 'there'
        when status <> all ($3::text[]) then 'impossible'
        when $2 = 'active' and status = 'rejected' and exists (
            select from listings as other
            where coalesce(other.agency_id, other.owner_id) = seller and other.unit_hash = held.unit_hash
              and other.deleted_at is null and other.status in (
                'pending_review', 'coming_soon', 'active', 'under_offer', 'reserved', 'paused')) then 'on-offer'
        -- Of several that were rejected and are the same unit the first one takes its place.
        when $2 = 'active' and status = 'rejected' and unit_hash is not null
            and row_number() over (partition by seller, unit_hash, status order by id) > 1 then 'on-offer'
        else 'moved' end as outcome
    from held
), moved as (
    update listings
    set status = $2, review_reason = $4, changed_by = $5, updated_at = $6, version = version + 1,
        published_at = case when $2 = 'active' then coalesce(published_at, $6) else published_at end,
        expires_at = case when $2 = 'active' then greatest(expires_at, $7) else expires_at end
    from judged where listings.id = judged.id and outcome = 'moved'
)
select id, owner_id, outcome from judged;

-- name: hold_links
-- Groups of listings that are the same are joined one after the other, or a link could lead to a link.
select true as held from pg_advisory_xact_lock(hashtextextended('canonical listings', 0));

-- name: link_listings
-- These, and all that is linked with one of them, become one group: everything in it leads to $2 (null: to the oldest of
-- those they led to), which leads nowhere. What is deleted is in no group any more.
with heads as (
    select coalesce(canonical_id, id) as id from listings where id = any ($1::uuid[])
), members as materialized (
    select id, created_at from listings
    where deleted_at is null and id in (
        select id from heads
        union all select follower.id from listings as follower join heads on follower.canonical_id = heads.id)
    order by id for no key update
), canonical as materialized (
    select id from members
    order by id = $2 desc nulls last, id in (select id from heads) desc, created_at, id
    limit 1
)
update listings
set canonical_id = nullif(canonical.id, listings.id), changed_by = $3, updated_at = $4, version = version + 1
from members, canonical
where listings.id = members.id and listings.canonical_id is distinct from nullif(canonical.id, listings.id);

-- name: is_deleted
-- Whether the listing was there once.
select deleted_at is not null as deleted from listings where id = $1;
