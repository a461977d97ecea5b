-- Conversations and messages.

-- name: open_conversation
-- One conversation for a lead, however often the buyer enquires.
insert into conversations (lead_id, agency_id) values ($1, $2)
on conflict (lead_id) do update set updated_at = now()
returning id;

-- name: send_many
-- Messages in the order they came, numbered under their conversation's lock; a repeated client_id finds the first result.
-- The lead is locked as well (and first): an agent who has claimed it either hears a message or finds it stored. What
-- belongs together stays in one row from step to step: of arrays the planner expects ten items, and would join by loops.
with item as (
    select conversation_id, sender_id, client_id, message, place
    from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) with ordinality
        as item (conversation_id, sender_id, client_id, message, place)
), lead as materialized (
    select id, buyer_id, claimed_by from leads
    where id in (select lead_id from conversations where id = any ($1::uuid[]))
    order by id for share
), talk as materialized (
    select id, lead_id, top_seq from conversations
    where id = any ($1::uuid[]) and lead_id = any (array(select id from lead))
    order by id for no key update
), judged as materialized (
    select item.*, talk.top_seq,
           case item.sender_id when lead.buyer_id then lead.claimed_by else lead.buyer_id end as receiver_id,
           array_remove(array[user_channel(lead.buyer_id), user_channel(lead.claimed_by)], null) as people,
           known.id as known_id, known.seq as known_seq, known.message as known_message, known.created_at as known_at,
           talk.id is not null and known.id is null and item.place = min(item.place) over (
               partition by item.conversation_id, item.sender_id, item.client_id) as fresh
    from item
    left join (talk join lead on lead.id = talk.lead_id)
        on talk.id = item.conversation_id and item.sender_id in (lead.buyer_id, lead.claimed_by)
    left join messages as known on (known.conversation_id, known.sender_id, known.client_id)
                                 = (talk.id, item.sender_id, item.client_id)
), told as materialized (
    select place, conversation_id, sender_id, client_id, message as sent, receiver_id, people, fresh,
           coalesce(known_id, first_value(new_id) over same_wish) as id,
           coalesce(known_seq, first_value(new_seq) over same_wish) as seq,
           coalesce(known_message, first_value(message) over same_wish) as message,
           coalesce(known_at, now()) as created_at
    from (
        select judged.*, case when fresh then uuidv7() end as new_id,
               top_seq + count(*) filter (where fresh) over (partition by conversation_id order by place) as new_seq
        from judged
    ) as numbered
    window same_wish as (partition by conversation_id, sender_id, client_id order by place)
), stored as (
    insert into messages (conversation_id, seq, id, sender_id, client_id, message, created_at)
    select conversation_id, seq, id, sender_id, client_id, message, created_at from told where fresh
), advanced as (
    update conversations set top_seq = newest.seq, updated_at = now()
    from (select conversation_id, max(seq) as seq from told where fresh group by conversation_id) as newest
    where conversations.id = newest.conversation_id
), outcome as (
    select place::int as position,
           case when not fresh then '[]' else jsonb_build_array(jsonb_build_object(
               'type', 'message.new',
               'to', people,
               'data', jsonb_build_object(
                   'conversation_id', conversation_id, 'message_id', id, 'seq', seq, 'sender_id', sender_id,
                   'client_id', client_id),
               'joined', jsonb_build_object('message', message))) end as events,
           message_body(row (conversation_id, seq, id, sender_id, client_id, message, created_at)::messages, receiver_id)
               as body,
           case when seq is not null then message = sent end as same
    from told
)
select * from outcome;

-- name: list_conversations
-- A person's conversations, the one that last moved first, each with its newest message.
select coalesce(jsonb_agg(body order by updated_at desc, id desc), '[]') as body
from (
    select conversations.id, conversations.updated_at, jsonb_build_object(
        'id', conversations.id, 'lead_id', conversations.lead_id, 'listing_id', leads.listing_id,
        'listing_title', listings.title, 'buyer_id', leads.buyer_id, 'agent_id', leads.claimed_by,
        'top_seq', top_seq,
        'last_message', (select message_body(messages) from messages
                         where conversation_id = conversations.id and seq = top_seq),
        'created_at', utc(conversations.created_at), 'updated_at', utc(conversations.updated_at)) as body
    from conversations
    join leads on leads.id = conversations.lead_id
    join listings on listings.id = leads.listing_id
    where leads.buyer_id = $1 or leads.claimed_by = $1
    order by conversations.updated_at desc, conversations.id desc
    limit $2
) as newest;

-- name: list_messages
-- What stands after a seq, oldest first; no row at all for whoever takes no part.
select (
    select coalesce(jsonb_agg(message_body(page) order by seq), '[]')
    from (select * from messages where conversation_id = $1 and seq > $3 order by seq limit $4) as page
) as body
where exists (select from conversation_people where conversation_id = $1 and user_id = $2);

-- name: texts_of
-- What people wrote, joined to events when they are sent again.
select id, message from messages where id = any ($1::uuid[]);

-- name: participants
-- Who takes part in a conversation.
select user_id from conversation_people where conversation_id = $1 order by user_id;

-- name: take_part
-- Which of the pairs of person and conversation are of somebody who takes part.
select asked.person as user_id, asked.conversation as conversation_id
from unnest($1::uuid[], $2::uuid[]) as asked (person, conversation)
where exists (select from conversation_people
              where conversation_id = asked.conversation and user_id = asked.person);
