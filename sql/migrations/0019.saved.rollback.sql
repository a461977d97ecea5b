drop function json_list;
drop function shown_listings;
drop table saved_listings;
