drop function usual_model;
drop function usual_brand;
drop table models;
drop table brands;
