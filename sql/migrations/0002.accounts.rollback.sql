drop table refresh_tokens;
drop table sign_ins;
drop table users;
