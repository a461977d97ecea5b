drop function property_body(listings, properties);
drop table properties;
drop table listings;
