alter table conversations reset (fillfactor);
alter table messages add constraint messages_conversation_id_fkey foreign key (conversation_id) references conversations,
    add constraint messages_sender_id_fkey foreign key (sender_id) references users;
drop function message_body(messages, uuid);
