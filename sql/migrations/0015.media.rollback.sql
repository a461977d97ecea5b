drop function hash_bands cascade;
drop function media_body;
drop function media_key;
drop table media;
