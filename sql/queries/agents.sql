-- Agent profiles and agencies. A profile is public while it and its account live.

-- name: list_agents
-- The agents for everyone, newest first, and how many there are, counted no further than $3.
with page as (
    select agent_profiles as agent
    from agent_profiles join users on users.id = agent_profiles.user_id
    where agent_profiles.deleted_at is null and users.is_active and users.deleted_at is null
    order by agent_profiles.created_at desc, agent_profiles.id desc
    offset $1 limit $2
)
select (select count(*) from (
            select from agent_profiles join users on users.id = agent_profiles.user_id
            where agent_profiles.deleted_at is null and users.is_active and users.deleted_at is null
            limit $3) as counted)::int as total,
       (select coalesce(jsonb_agg(agent_body(agent) order by (agent).created_at desc, (agent).id desc), '[]')
        from page) as body;

-- name: get_agent
-- One agent for everyone.
select agent_body(agent_profiles) as body
from agent_profiles join users on users.id = agent_profiles.user_id
where agent_profiles.id = $1 and agent_profiles.deleted_at is null and users.is_active and users.deleted_at is null;

-- name: add_profile
-- A person has one profile: a second answers no row.
insert into agent_profiles (user_id, display_name, company_name, license, specializations, bio, website, facebook,
                            twitter, linkedin, contact_phone, contact_email, country)
select $1::uuid, display_name, company_name, license, specializations, bio, website, facebook,
       twitter, linkedin, contact_phone, contact_email, country
from jsonb_populate_record(null::agent_profiles, $2)
on conflict (user_id) where deleted_at is null do nothing
returning id, agent_body(agent_profiles) as body;

-- name: change_profile
-- What $2 names changes, the rest stays.
update agent_profiles
set (display_name, company_name, license, specializations, bio, website, facebook,
     twitter, linkedin, contact_phone, contact_email, country) = (
        select display_name, company_name, license, specializations, bio, website, facebook,
               twitter, linkedin, contact_phone, contact_email, country
        from jsonb_populate_record(agent_profiles, $2)),
    updated_at = now()
where user_id = $1 and deleted_at is null
returning agent_body(agent_profiles) as body;

-- name: found_agency
-- An agency begins with its founder, who must not be in another one; two attempts at once found one agency.
with founder as (
    select id from agent_profiles
    where user_id = $1 and agency_id is null and deleted_at is null
    for no key update
), founded as (
    insert into agencies (name, license, city, country)
    select name, license, city, country from founder, jsonb_populate_record(null::agencies, $2)
    returning id
), joined as (
    update agent_profiles set agency_id = founded.id, agency_role = 'owner', updated_at = now()
    from founder, founded where agent_profiles.id = founder.id
)
select id from founded;

-- name: join_agency
-- An agent works for one agency at a time.
update agent_profiles set agency_id = $2, agency_role = $3, updated_at = now()
where user_id = $1 and agency_id is null and deleted_at is null
returning id;

-- name: get_agency
-- An agency for everyone, with those of its agents who are public.
select jsonb_build_object(
    'id', agencies.id, 'name', name, 'license', license, 'city', city, 'country', country,
    'created_at', utc(created_at), 'updated_at', utc(updated_at),
    'members', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', member.id, 'user_id', member.user_id, 'display_name', member.display_name,
            'agency_role', member.agency_role) order by member.id), '[]')
        from agent_profiles as member join users on users.id = member.user_id
        where member.agency_id = agencies.id and member.deleted_at is null
          and users.is_active and users.deleted_at is null)) as body
from agencies where agencies.id = $1 and deleted_at is null;

-- name: find_profile
-- Whether a person is an agent at all, and for which living agency.
select agent_profiles.id, agencies.id as agency_id
from agent_profiles left join agencies on agencies.id = agency_id and agencies.deleted_at is null
where user_id = $1 and agent_profiles.deleted_at is null;

-- name: agency_agents
-- Who hears of an agency's leads: its living agents whose account is active.
select agent_profiles.user_id
from agent_profiles join users on users.id = agent_profiles.user_id
where agency_id = $1 and agent_profiles.deleted_at is null and users.is_active and users.deleted_at is null
order by agent_profiles.id;

-- name: remove_member
-- Whoever leaves by themselves, or is taken out by the owner or a manager; the owner is answered and stays.
with remover as materialized (
    select id, agency_role from agent_profiles where user_id = $1 and agency_id = $2 and deleted_at is null
), leaver as materialized (
    select id, user_id, agency_role from agent_profiles
    where id = $3 and agency_id = $2 and deleted_at is null
      and exists (select from remover where remover.id = $3 or agency_role in ('owner', 'manager'))
    for no key update
), removed as (
    update agent_profiles set agency_id = null, agency_role = null, updated_at = now()
    from leaver where agent_profiles.id = leaver.id and leaver.agency_role <> 'owner'
    returning agent_profiles.id
)
select user_id, agency_role, exists (select from removed) as removed from leaver;

-- name: managers
-- Which of the pairs of person and agency are of somebody who runs it.
select user_id, agency_id
from unnest($1::uuid[], $2::uuid[]) as asked (person, agency)
join agent_profiles on user_id = person and agency_id = agency
join agencies on agencies.id = agency and agencies.deleted_at is null
where agency_role in ('owner', 'manager') and agent_profiles.deleted_at is null;
