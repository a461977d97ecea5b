drop function message_body(messages);
drop view conversation_people;
drop table messages;
drop table conversations;
