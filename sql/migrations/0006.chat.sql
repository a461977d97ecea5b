-- Conversations and their messages. Who takes part follows from the lead: the buyer, and the agent who claimed it.

create table conversations (
    id uuid primary key default uuidv7(),
    lead_id uuid not null unique references leads,
    agency_id uuid references agencies,
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    top_seq bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- `seq` numbers a conversation's messages without holes, under the lock of the conversation's row. `client_id` is the
-- sender's own id of the wish: a repeat finds the first result.
create table messages (
    conversation_id uuid not null references conversations,
    seq bigint not null,
    id uuid not null unique default uuidv7(),
    sender_id uuid not null references users,
    client_id text not null check (length(client_id) <= 64),
    message text not null check (length(message) between 1 and 4000),
    created_at timestamptz not null default now(),
    primary key (conversation_id, seq),
    unique (conversation_id, sender_id, client_id)
);

create view conversation_people as
    select conversations.id as conversation_id, leads.buyer_id as user_id
    from conversations join leads on leads.id = conversations.lead_id
    union all
    select conversations.id, leads.claimed_by
    from conversations join leads on leads.id = conversations.lead_id
    where leads.claimed_by is not null;

create function message_body(row_of messages) returns jsonb
language sql stable
return jsonb_build_object(
    'id', row_of.id, 'conversation_id', row_of.conversation_id, 'seq', row_of.seq, 'sender_id', row_of.sender_id,
    'receiver_id', (select user_id from conversation_people as people
                    where people.conversation_id = row_of.conversation_id and user_id <> row_of.sender_id limit 1),
    'client_id', row_of.client_id, 'message', row_of.message, 'created_at', utc(row_of.created_at));
