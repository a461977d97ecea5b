-- The gazetteer: places and what people call them.

-- name: list_places
-- Those with a name that begins so ($1), of that kind ($2) and country ($3), null: all; whoever is meant most likely
-- comes first: who bears the very name, then the greater.
with named as (
    select place_id, bool_or(place_key(name) = place_key($1)) as whole
    from place_names
    where $1::text is null or (place_key($1) <> '' and starts_with(place_key(name), place_key($1)))
    group by place_id
), page as (
    select places.*, row_number() over (
        order by whole desc, array_position(array['city', 'sub_city', 'neighborhood'], kind), population desc nulls last,
                 name, id) as rank
    from named join places on places.id = place_id
    where ($2::text is null or kind = $2) and ($3::text is null or country = $3)
    order by rank limit $4
)
select coalesce(jsonb_agg(
    place_name(page.id) || jsonb_build_object(
        'country', country, 'latitude', latitude, 'longitude', longitude, 'parent', place_name(parent_id))
    order by rank), '[]') as body
from page;

-- name: list_gazetteer
-- All places of a country with all their names, first the usual ones, the English one before the Amharic one.
select places.id, parent_id, kind, latitude, longitude, population,
       array_agg(place_names.name
                 order by usual desc, array_position(array['en', 'am'], language), place_names.name) as names
from places join place_names on place_id = places.id
where country = $1
group by places.id order by places.id;
