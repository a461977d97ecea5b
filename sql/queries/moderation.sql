-- Reports, what waits for moderators, and listings that are the same thing twice.
-- What is locked, in this order: listings by id, duplicates, items by id, streams.

-- name: add_report
-- A person has one open report about a listing. No row if it is not public, or if there is one already. Whoever decides
-- about the listing waits for this, or this for them: a report is never left behind without an item.
with reported as materialized (
    select id, country from listings where id = $1 and status = 'active' and deleted_at is null for share
)
insert into reports (listing_id, reporter_id, country, reason, text)
select id, $2, country, $3, $4 from reported
on conflict (listing_id, reporter_id) where state = 'open' do nothing
returning report_body(reports) as body;

-- name: find_report
-- The open report of this person about the listing.
select report_body(reports) as body from reports where listing_id = $1 and reporter_id = $2 and state = 'open';

-- name: open_items
-- An item for all that is to be decided about this listing and has none.
insert into moderation_items (kind, listing_id, other_id, country)
select kind, listing_id, other_id, country from moderation_wanted($1) order by kind, listing_id, other_id
on conflict (listing_id, kind, other_id) where done_at is null do nothing
returning id, kind, listing_id;

-- name: close_items
-- The items of these listings about which nothing is to be decided any more.
with ready as materialized (
    select item.id from moderation_items as item
    where done_at is null and (listing_id = any ($1::uuid[]) or other_id = any ($1::uuid[]))
      and not exists (
        select from moderation_wanted(item.listing_id) as wanted
        where wanted.kind = item.kind and wanted.other_id is not distinct from item.other_id
          and wanted.listing_id = item.listing_id)
    order by item.id for update
)
update moderation_items as item set done_at = $2, done_by = $3, outcome = $4
from ready where item.id = ready.id and done_at is null
returning item.id, item.kind, item.listing_id;

-- name: list_queue
-- What waits, the oldest first, after the place ($2, $3; null: from the start). One more than is shown says whether
-- there is more.
with waiting as materialized (
    select item, created_at, id, row_number() over (order by created_at, id) as place
    from (
        select item, item.created_at, item.id from moderation_items as item
        where done_at is null
          and (created_at, id) > (coalesce($2::timestamptz, '-infinity'),
                                  coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')) /* filters */
        order by created_at, id limit $1::int + 1) as page
)
select coalesce(jsonb_agg(moderation_item_body(item) order by place) filter (where place <= $1), '[]') as items,
       max(created_at) filter (where place = $1 and place < total) as created_at,
       (array_agg(id) filter (where place = $1 and place < total))[1] as id
from waiting cross join (select count(*) as total from waiting) as counted
-- filter: kind
-- Of one kind.
and kind = $value;

-- name: get_item
-- One item that waits.
select moderation_item_body(moderation_items) as body from moderation_items where id = $1 and done_at is null;

-- name: claim_item
-- One moderator has it until the claim runs out. No row if another has it, or if it does not wait any more.
update moderation_items set claimed_by = $2, claimed_until = $4
where id = $1 and done_at is null and (claimed_by is null or claimed_by = $2 or claimed_until <= $3)
returning listing_id, moderation_item_body(moderation_items) as body;

-- name: hold_items
-- All that waits about these listings, and which of it somebody else than $2 is at. Nobody claims any of it from now on:
-- all is held first, for a claim that is being made just now counts too.
with held as materialized (
    select kind, listing_id, other_id, claimed_by, claimed_until from moderation_items
    where done_at is null and (listing_id = any ($1::uuid[]) or other_id = any ($1::uuid[]))
    order by id for update
)
select kind, listing_id, other_id, coalesce(claimed_by <> $2 and claimed_until > $3, false) as taken from held;

-- name: hold_listings
-- Those of them that are there. Until the end of the transaction nobody reports, changes or links them.
select id from listings where id = any ($1::uuid[]) and deleted_at is null order by id for no key update;

-- name: settle_reports
-- What is decided about listings is decided about all their open reports.
update reports set state = $2, settled_by = $3, settled_at = $4 where listing_id = any ($1::uuid[]) and state = 'open';

-- name: get_moderated
-- All that a moderator must see of a listing. Each part is JSON text already.
select convert_to('{"listing": ' || shown.document
        || ', "review_reason": ' || coalesce(to_jsonb(review_reason)::text, 'null')
        || ', "items": ' || (
            select coalesce(jsonb_agg(moderation_item_body(item) order by item.created_at, item.id), '[]')::text
            from moderation_items as item where done_at is null and (listing_id = listings.id or other_id = listings.id))
        || ', "reports": ' || (
            select coalesce(jsonb_agg(report_body(report) || jsonb_build_object(
                'reporter_id', reporter_id, 'state', state, 'settled_by', settled_by, 'settled_at', utc(settled_at))
                order by created_at desc, id desc), '[]')::text
            from (select * from reports where listing_id = listings.id order by created_at desc, id desc limit $3)
                as report)
        || '}', 'UTF8') as body
from listings cross join shown_listings(array[listings.id], null, $2) as shown
where listings.id = $1 and deleted_at is null;

-- name: find_duplicates
-- What may be the same thing as this listing: it has the same unit, pictures that look alike, or is the like of it in the
-- same place. Of what is there at about the price no more than $4 are compared, whichever: in the middle of a district,
-- where many put their places, there are thousands.
with this as materialized (
    select listing.id, kind, listing_type, currency, price, title, latitude, longitude, unit_hash,
           coalesce(agency_id, owner_id) as seller, property_type, bedrooms, lower(brand) as brand,
           lower(model) as model, year
    from listings as listing
    left join properties on properties.id = listing.id
    left join vehicles on vehicles.id = listing.id
    where listing.id = $1 and is_on_offer(listing)
), noticed as (
    select other.id, 'unit' as reason, 0.9 as weight
    from this join listings as other on other.unit_hash = this.unit_hash and other.deleted_at is null
    where coalesce(other.agency_id, other.owner_id) <> this.seller
    union all
    select theirs.listing_id, 'pictures', 1 - 0.5 ^ least(count(distinct own.id), 20)
    from this
    join images as own on own.listing_id = this.id
    join media as picture on picture.id = own.media_id
    cross join lateral (
        select listing_id, count(*) over () as shown
        from (
            select image.listing_id
            from media as lookalike
            join images as image on image.media_id = lookalike.id and image.listing_id <> this.id
            join listings as other on other.id = image.listing_id and is_on_offer(other)
            where lookalike.phash is not null
              and hash_bands(lookalike.phash) && hash_neighbours(picture.phash)
              and bit_count((lookalike.phash # picture.phash)::bit(64)) <= 4
            limit $3::int + 1) as showing
    ) as theirs
    -- Pictures without any shape are all alike, and one that many show (a brochure's, a developer's) says nothing.
    where bit_count(picture.phash::bit(64)) between 4 and 60 and theirs.shown <= $3
    group by theirs.listing_id
    union all
    select near.id, 'alike', 0.8 * similarity(near.title, this.title)
    from this
    cross join lateral (
        select id, title from listings as other
        where other.latitude between this.latitude - 0.00136 and this.latitude + 0.00136
          and other.longitude between this.longitude - 0.00136 / greatest(cos(radians(this.latitude)), 0.01)
                                  and this.longitude + 0.00136 / greatest(cos(radians(this.latitude)), 0.01)
          and other.deleted_at is null and other.latitude is not null and is_on_offer(other)
          and other.kind = this.kind and other.listing_type = this.listing_type and other.currency = this.currency
          and abs(other.price - this.price) <= 0.1 * greatest(other.price, this.price)
          and metres_between(this.latitude, this.longitude, other.latitude, other.longitude) <= 150
          -- Whoever offers all the flats of a house offers no flat twice.
          and coalesce(other.agency_id, other.owner_id) <> this.seller
        limit $4
    ) as near
    left join properties on properties.id = near.id
    left join vehicles on vehicles.id = near.id
    where (properties.property_type, properties.bedrooms, lower(vehicles.brand), lower(vehicles.model), vehicles.year)
          is not distinct from (this.property_type, this.bedrooms, this.brand, this.model, this.year)
      and similarity(near.title, this.title) >= 0.4
)
select noticed.id, string_agg(reason, ' ' order by reason) as reasons, 1 - exp(sum(ln(1 - weight))) as score
from noticed join listings as other on other.id = noticed.id
where is_on_offer(other)
group by noticed.id
order by score desc, noticed.id
limit $2;

-- name: hold_pairs
-- The listing, what was found to be like it now ($2), and what was found before: while these are compared with the items
-- that are open none leaves the market unseen.
select id from listings
where id in (
    select $1::uuid union all select unnest($2::uuid[])
    union all select other_id from duplicates where listing_id = $1
    union all select listing_id from duplicates where other_id = $1)
order by id for share;

-- name: keep_duplicates
-- Found anew a pair changes only if there are more reasons than were known; what a moderator has dismissed is a
-- candidate again then.
insert into duplicates (listing_id, other_id, country, reasons, score)
select least($1, id), greatest($1, id), country, string_to_array(reasons, ' '), score
from unnest($2::uuid[], $3::text[], $4::double precision[]) as found (id, reasons, score) join listings using (id)
order by 1, 2
on conflict (listing_id, other_id) do update
    set reasons = array(select distinct unnest(duplicates.reasons || excluded.reasons) order by 1),
        score = greatest(duplicates.score, excluded.score),
        state = case duplicates.state when 'confirmed' then 'confirmed' else 'candidate' end,
        settled_by = case duplicates.state when 'confirmed' then duplicates.settled_by end,
        settled_at = case duplicates.state when 'confirmed' then duplicates.settled_at end
    where not excluded.reasons <@ duplicates.reasons;

-- name: settle_duplicate
-- What is decided about two. Those that are linked stay so.
update duplicates set state = $3, settled_by = $4, settled_at = $5
where listing_id = least($1::uuid, $2::uuid) and other_id = greatest($1::uuid, $2::uuid) and state <> 'confirmed';

-- name: find_duplicate
-- Whether the two, which are candidates or were, are linked: with each other, or both with a third.
select coalesce(one.canonical_id, one.id) = coalesce(other.canonical_id, other.id) or state = 'confirmed' as linked
from duplicates
join listings as one on one.id = listing_id
join listings as other on other.id = other_id
where listing_id = least($1::uuid, $2::uuid) and other_id = greatest($1::uuid, $2::uuid);

-- name: list_duplicates
-- What may be the same as this listing, the likeliest first, with all that everybody can see of it.
select json_list(array(
    select left(jsonb_build_object(
               'reasons', to_jsonb(reasons), 'score', round(score::numeric, 3), 'state', state,
               'found_at', utc(found_at), 'settled_by', settled_by, 'settled_at', utc(settled_at))::text, -1)
           || ', "listing": ' || shown.document || '}'
    from duplicates as pair
    join listings as other on other.id = case pair.listing_id when $1 then pair.other_id else pair.listing_id end
    cross join shown_listings(array[other.id], null, $2) as shown
    where (pair.listing_id = $1 or pair.other_id = $1) and other.deleted_at is null
    order by score desc, other.id
    limit $3)) as body;
