-- A small gazetteer: where people look, and every name they have for it.

create table places (
    id int primary key,
    parent_id int references places,
    kind text not null check (kind in ('city', 'sub_city', 'neighborhood')),
    country text not null check (country ~ '^[A-Z]{2}$'),
    name text not null check (length(name) between 1 and 200),
    latitude double precision not null check (latitude between -90 and 90),
    longitude double precision not null check (longitude between -180 and 180)
);
create index places_parent on places (parent_id);

-- What is left of a name when only its letters count: Addis Abeba, addis-abeba and ADDIS ABEBA are one.
create function place_key(name text) returns text language sql immutable parallel safe strict
return regexp_replace(lower(name), '[^[:alnum:]]+', '', 'g');

create table place_names (
    place_id int not null references places,
    name text not null check (length(name) between 1 and 200),
    -- The language it is written in (ISO 639-1), and whether it is how the place is called there.
    language text not null check (language ~ '^[a-z]{2}$'),
    usual boolean not null default false,
    primary key (place_id, name)
);
create index place_names_key on place_names (place_key(name));

-- The place that these words mean: the neighbourhood or sub-city in that city where one has the name, else the city.
-- Null if the gazetteer knows neither.
create function place_of(wanted_country text, city text, neighborhood text) returns int
language sql stable parallel safe as $$
with town as (
    select places.id from place_names join places on places.id = place_id
    where place_key(place_names.name) = place_key($2) and kind = 'city' and country = $1
    order by places.id limit 1
)
select coalesce(
    (select places.id
     from place_names join places on places.id = place_id left join places as parent on parent.id = places.parent_id
     where place_key(place_names.name) = place_key($3)
       and (select id from town) in (places.parent_id, parent.parent_id)
     order by places.kind, places.id limit 1),
    (select id from town))
$$;
