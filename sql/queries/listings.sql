-- Listings and properties. Deleted ones stay as rows and are seen by nobody.

-- name: list_properties
-- The market for everyone, newest first, and how many there are, counted no further than $3. The place in the list
-- is found in the index; only the rows of the page itself are read.
with page as materialized (
    select id, created_at from listings
    where kind = 'property' and status = 'active' and deleted_at is null
    order by created_at desc, id desc
    offset $1 limit $2
)
select (select count(*) from (
            select from listings where kind = 'property' and status = 'active' and deleted_at is null
            limit $3) as counted)::int as total,
       (select coalesce(jsonb_agg(property_body(listings, properties)
                                  order by page.created_at desc, page.id desc), '[]')
        from page join listings on listings.id = page.id join properties on properties.id = page.id) as body;

-- name: get_property
-- An active property is for everyone, any other for its owner and the agents of its agency ($2, null: nobody).
select property_body(listings, properties) as body
from listings join properties on properties.id = listings.id
where listings.id = $1 and deleted_at is null and (
    status = 'active' or owner_id = $2
    or exists (select from agent_profiles
               where user_id = $2 and agent_profiles.agency_id = listings.agency_id and deleted_at is null));

-- name: add_property
-- The listing and its property are one thing and come together.
with listed as (
    insert into listings (kind, owner_id, agency_id, published_at, created_at, updated_at, title, description,
                          listing_type, price, currency, address, neighborhood, city, latitude, longitude,
                          language, country)
    select 'property', $1::uuid, $2::uuid, $4::timestamptz, $4, $4, title, description,
           listing_type, price, currency, address, neighborhood, city, latitude, longitude, language, country
    from jsonb_populate_record(null::listings, $3)
    returning listings as listing
), detailed as (
    insert into properties (id, property_type, bedrooms, bathrooms, square_meters, year_built)
    select (listing).id, property_type, bedrooms, bathrooms, square_meters, year_built
    from listed, jsonb_populate_record(null::properties, $3)
    returning properties as property
)
select (listing).id, property_body(listing, property) as body from listed, detailed;

-- name: change_property
-- What $3 names changes, the rest stays; nobody but the owner gets a row.
with listed as (
    update listings
    set (title, description, listing_type, price, currency, status, address, neighborhood, city,
         latitude, longitude, language, country) = (
            select title, description, listing_type, price, currency, status, address, neighborhood, city,
                   latitude, longitude, language, country
            from jsonb_populate_record(listings, $3)),
        updated_at = $4
    where id = $1 and owner_id = $2 and kind = 'property' and deleted_at is null
    returning new as listing, old as previous
), detailed as (
    update properties
    set (property_type, bedrooms, bathrooms, square_meters, year_built) = (
            select property_type, bedrooms, bathrooms, square_meters, year_built
            from jsonb_populate_record(properties, $3))
    from listed
    where properties.id = (listing).id
    returning properties as property
)
select property_body(listing, property) as body, (listing).status, (listing).price, (listing).currency,
       (previous).status as previous_status, (previous).price as previous_price,
       (previous).currency as previous_currency
from listed, detailed;

-- name: delete_property
-- Deleting keeps the row for what refers to it; nobody but the owner gets one.
update listings set deleted_at = $3, updated_at = $3
where id = $1 and owner_id = $2 and kind = 'property' and deleted_at is null
returning id;

-- name: public_listings
-- Which of these everybody may see.
select id from listings where id = any ($1::uuid[]) and status = 'active' and deleted_at is null;

-- name: find_offer
-- What other features need to know of any listing that is not deleted.
select id, owner_id, agency_id, kind, status, price, currency, city
from listings where id = $1 and deleted_at is null;
