drop function usual_model;
drop function usual_brand;
drop function brand_of;
drop table models;
drop table brands;
drop function brand_key;
