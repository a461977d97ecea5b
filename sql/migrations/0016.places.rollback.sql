drop function place_name;
drop function places_within;
drop function place_of;
drop table place_names;
drop function place_key;
drop table places;
