-- What people keep for later.

create table saved_listings (
    user_id uuid not null references users,
    listing_id uuid not null references listings,
    saved_at timestamptz not null default now(),
    primary key (user_id, listing_id)
);
create index saved_listings_newest on saved_listings (user_id, saved_at desc, listing_id desc);
create index saved_listings_listing on saved_listings (listing_id);

-- Listings as `viewer` (null: somebody) gets them, in the order of `wanted`; `host` is the address of the media.
create function shown_listings(wanted uuid[], viewer uuid, host text)
returns table (place bigint, id uuid, card text, document text)
language sql stable as $$
select place, listing.id,
       finished(texts.card, host, view_count, save_count, is_saved, agent.body),
       finished(texts.document, host, view_count, save_count, is_saved, agent.body)
from unnest(wanted) with ordinality as asked (id, place)
join listings as listing using (id)
join listing_texts as texts using (id)
left join listing_stats as stats using (id)
cross join lateral (
    select exists (select from saved_listings where user_id = viewer and listing_id = listing.id) as is_saved) as mine
left join lateral (
    select jsonb_build_object(
        'id', profile.id, 'display_name', profile.display_name, 'company_name', profile.company_name,
        'rating', profile.rating, 'review_count', profile.review_count)::text as body
    from agent_profiles as profile
    where profile.user_id = listing.owner_id and profile.deleted_at is null) as agent on true
$$;

-- Texts as one JSON array in UTF-8, ready to be sent.
create function json_list(texts text[]) returns bytea language sql immutable parallel safe
return convert_to('[' || coalesce(array_to_string(texts, ','), '') || ']', 'UTF8');
