-- As in 0013: what stands in every write has no query in it.
create function message_body(row_of messages, receiver_id uuid) returns jsonb
language sql stable parallel safe
return jsonb_build_object(
    'id', row_of.id, 'conversation_id', row_of.conversation_id, 'seq', row_of.seq, 'sender_id', row_of.sender_id,
    'receiver_id', receiver_id, 'client_id', row_of.client_id, 'message', row_of.message,
    'created_at', utc(row_of.created_at));

-- Rows come from send_many only, which holds the conversation's row and found the sender among its lead's people; two
-- locks and two look-ups for each message would ask the same again.
alter table messages drop constraint messages_conversation_id_fkey, drop constraint messages_sender_id_fkey;

-- The counter moves with every message: room on the page keeps the new version beside the old one.
alter table conversations set (fillfactor = 70);
