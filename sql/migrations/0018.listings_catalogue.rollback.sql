drop function finished;
drop trigger listings_texts_of_changed on listings;
drop trigger listings_texts_of_new on listings;
drop function write_texts_of_changed;
drop function write_listing_texts;
drop function built_texts;
drop function listing_card;
drop function listing_fields;
drop function image_text;
drop table listing_texts;
drop function standard_status;
drop trigger vehicles_history on vehicles;
drop trigger properties_history on properties;
drop trigger listings_history on listings;
drop function note_history;
drop table listing_history;
drop function more_heat;
alter table listings add column view_count bigint not null default 0 check (view_count >= 0);
update listings set view_count = listing_stats.view_count from listing_stats where listing_stats.id = listings.id;
drop table listing_stats;
drop table images;
drop table vehicles;
alter table properties
    drop column lot_square_meters, drop column floor, drop column floors, drop column furnishing,
    drop column condition, drop column parking, drop column available_from,
    alter constraint properties_id_fkey not deferrable;
drop index listings_newest, listings_newest_of_all, listings_priced, listings_elsewhere, listings_review;
create index listings_newest on listings (kind, created_at desc, id desc)
    where status = 'active' and deleted_at is null;
alter table listings
    drop column version, drop column changed_by, drop column price_type, drop column price_period, drop column region,
    drop column place_id, drop column amenities, drop column features, drop column expires_at, drop column warned_at,
    drop column renewals, drop column closed_at, drop column closed_price, drop column review_reason,
    drop column unit_hash, drop column canonical_id;
drop index listings_featured, listings_near;
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
