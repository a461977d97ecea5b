-- Makes of vehicles and their models, as people write them.

create table brands (
    id int primary key,
    name text not null check (length(name) between 1 and 100)
);
create unique index brands_name on brands (lower(name));

create table models (
    brand_id int not null references brands,
    name text not null check (length(name) between 1 and 100),
    body text check (length(body) between 1 and 30),
    primary key (brand_id, name)
);
create unique index models_name on models (brand_id, lower(name));

-- How the make is usually written; what nobody knows stays as it was written.
create function usual_brand(written text) returns text language sql stable parallel safe strict as $$
select coalesce((select name from brands where lower(name) = lower(written)), written)
$$;
create function usual_model(written_brand text, written text) returns text
language sql stable parallel safe strict as $$
select coalesce((select models.name from models join brands on brands.id = brand_id
                 where lower(brands.name) = lower(written_brand) and lower(models.name) = lower(written)), written)
$$;
