drop function agent_body(agent_profiles);
drop table agent_profiles;
drop table agencies;
