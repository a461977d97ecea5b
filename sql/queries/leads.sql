-- Leads: opened by an enquiry, offered to agents, claimed by one.

-- name: open_lead
-- A buyer has one open lead for a listing: a second enquiry joins it. (xmax is 0 only on a row just inserted.)
insert into leads (listing_id, buyer_id, agency_id) values ($1, $2, $3)
on conflict (listing_id, buyer_id) where status <> 'closed' do update set updated_at = now()
returning id, status, xmax = 0 as opened;

-- name: offer_lead
-- Every offer is kept, so that it can be told later who was asked and what became of it.
insert into lead_offers (lead_id, offered_to) select $1, unnest($2::uuid[]) order by 2 on conflict do nothing;

-- name: claim_many
-- Exactly one agent wins each lead; everybody else who was offered it learns so, and the buyer learns who came.
with item as (
    select lead_id, claimant, place from unnest($1::uuid[], $2::uuid[]) with ordinality as item (lead_id, claimant, place)
), locked as materialized (
    select leads as lead, leads.id, leads.status, leads.claimed_by from leads where id = any ($1::uuid[]) order by id for no key update
), asked as (
    select item.place, item.claimant, locked.lead, locked.id, locked.status, locked.claimed_by
    from item
    join locked on locked.id = item.lead_id
    join lead_offers as offer on offer.lead_id = item.lead_id and offer.offered_to = item.claimant
), winner as (
    select distinct on (id) id, claimant, place from asked where status = 'open' order by id, place
), claimed as (
    update leads set status = 'claimed', claimed_by = winner.claimant, claimed_at = now(), updated_at = now()
    from winner where leads.id = winner.id and leads.status = 'open'
    returning leads as lead, leads.id, leads.claimed_by, leads.listing_id, leads.buyer_id, leads.agency_id, winner.place
), settled as (
    update lead_offers set outcome = case offered_to when claimed.claimed_by then 'claimed' else 'taken' end,
                           settled_at = now()
    from claimed where lead_offers.lead_id = claimed.id
    returning lead_offers.lead_id, lead_offers.offered_to
), news as (
    select claimed.place, jsonb_build_array(
        jsonb_build_object('type', 'lead.claimed', 'data', facts || jsonb_build_object('claimed_by', claimed.claimed_by),
            'to', array_remove(array[user_channel(claimed.claimed_by), agency_channel(claimed.agency_id)], null)),
        jsonb_build_object('type', 'lead.taken', 'data', facts, 'to', array(
            select user_channel(offered_to) from settled
            where settled.lead_id = claimed.id and offered_to <> claimed.claimed_by)),
        jsonb_build_object('type', 'enquiry.assigned', 'data', facts || jsonb_build_object('agent_id', claimed.claimed_by),
            'to', array[user_channel(claimed.buyer_id)])) as events
    from claimed
    cross join lateral jsonb_build_object('lead_id', claimed.id, 'listing_id', claimed.listing_id) as facts
), outcome as (
    select item.place::int as position, coalesce(news.events, '[]') as events,
           coalesce(claimed.claimed_by, asked.claimed_by) = asked.claimant as mine,
           lead_body(coalesce(claimed.lead, asked.lead), conversations.id, item.claimant) as lead
    from item
    left join asked on asked.place = item.place
    left join claimed on claimed.id = asked.id
    left join news on news.place = item.place
    left join conversations on conversations.lead_id = asked.id
)
select * from outcome;

-- name: get_lead
-- One lead, for those it concerns: its buyer and whoever it was offered to.
select lead_body(leads, conversations.id, $2) as body
from leads left join conversations on conversations.lead_id = leads.id
where leads.id = $1
  and (leads.buyer_id = $2 or exists (select from lead_offers where lead_id = leads.id and offered_to = $2));

-- name: list_leads
-- An agent's desk: what was offered and is still open, and what the agent has claimed, newest first.
select coalesce(jsonb_agg(body order by offered_at desc, id desc), '[]') as body
from (
    select leads.id, offer.offered_at, lead_body(leads, conversations.id, $1) as body
    from lead_offers as offer
    join leads on leads.id = offer.lead_id
    left join conversations on conversations.lead_id = leads.id
    where offer.offered_to = $1 and (leads.claimed_by is null or leads.claimed_by = $1) and leads.status <> 'closed'
    order by offer.offered_at desc, leads.id desc
    limit $2
) as desk;

-- name: list_agency_leads
-- An agency's desk: its leads that are not closed, newest first.
select coalesce(jsonb_agg(body order by created_at desc, id desc), '[]') as body
from (
    select leads.id, leads.created_at, lead_body(leads, conversations.id, $2) as body
    from leads left join conversations on conversations.lead_id = leads.id
    where leads.agency_id = $1 and leads.status <> 'closed'
    order by leads.created_at desc, leads.id desc
    limit $3
) as desk;
