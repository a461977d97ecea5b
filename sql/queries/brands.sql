-- Makes of vehicles and their models.

-- name: list_brands
-- All makes by name, with how many models of them are known.
select coalesce(jsonb_agg(jsonb_build_object(
    'name', name, 'models', (select count(*) from models where brand_id = brands.id)) order by name), '[]') as body
from brands;

-- name: list_models
-- The models of the make that is called so, by name; no row if nobody knows it.
select (select coalesce(jsonb_agg(jsonb_build_object('name', models.name, 'body', body) order by models.name), '[]')
        from models where brand_id = brands.id) as body
from brands where id = brand_of($1);
