-- What people keep for later.

-- name: save_listing
-- Once a person and listing, and nothing that they could not see.
insert into saved_listings (user_id, listing_id, saved_at)
select $1, id, $3 from listings
where id = $2 and kind = any ($4::text[]) and deleted_at is null and (status = 'active' or owner_id = $1)
on conflict do nothing
returning listing_id;

-- name: unsave_listing
-- It is kept no longer, whatever has become of it.
delete from saved_listings using listings
where user_id = $1 and listing_id = $2 and id = listing_id and kind = any ($3::text[])
returning listing_id;

-- name: count_saved
-- Whether one has it, and how many do; no row for what is not there.
select exists (select from saved_listings where user_id = $1 and listing_id = listings.id) as saved,
       coalesce(save_count, 0) as save_count
from listings left join listing_stats using (id)
where id = $2 and kind = any ($3::text[]) and deleted_at is null;

-- name: list_saved
-- What one keeps, newest first, as long as it is or was on the market, and how many there are, counted no further
-- than $4.
with kept as materialized (
    select listing_id, saved_at from saved_listings join listings on listings.id = listing_id
    where user_id = $1 and deleted_at is null
      and (status in ('active', 'under_offer', 'reserved', 'sold', 'rented', 'leased') or owner_id = $1)
    order by saved_at desc, listing_id desc
    limit $4
)
select (select count(*) from kept)::int as total,
       json_list(array(
           select document from shown_listings(
               array(select listing_id from kept order by saved_at desc, listing_id desc offset $2 limit $3), $1, $5)
           order by place)) as body;
