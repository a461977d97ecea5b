-- Agents, who sell for others, and the agencies they work for.

create table agencies (
    id uuid primary key default uuidv7(),
    name text not null check (length(name) between 1 and 200),
    license text check (length(license) between 1 and 100),
    city text not null check (length(city) between 1 and 200),
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index agencies_license on agencies (license) where license is not null and deleted_at is null;

-- One living profile a person. The contact is what the agent publishes, not the account's.
create table agent_profiles (
    id uuid primary key default uuidv7(),
    user_id uuid not null references users,
    agency_id uuid references agencies,
    agency_role text check (agency_role in ('owner', 'manager', 'member')),
    display_name text not null check (length(display_name) between 1 and 200),
    company_name text check (length(company_name) between 1 and 200),
    license text check (length(license) between 1 and 100),
    specializations text[] not null default '{}' check (cardinality(specializations) <= 20),
    bio text check (length(bio) between 1 and 4000),
    website text,
    facebook text,
    twitter text,
    linkedin text,
    contact_phone text check (contact_phone ~ '^\+[1-9][0-9]{6,14}$'),
    contact_email text check (length(contact_email) <= 254),
    rating numeric(3, 2) not null default 0 check (rating between 0 and 5),
    review_count int not null default 0 check (review_count >= 0),
    properties_sold int not null default 0 check (properties_sold >= 0),
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    check ((agency_id is null) = (agency_role is null))
);
create unique index agent_profiles_user on agent_profiles (user_id) where deleted_at is null;
create unique index agent_profiles_license on agent_profiles (license)
    where license is not null and deleted_at is null;
create index agent_profiles_agency on agent_profiles (agency_id) where agency_id is not null and deleted_at is null;
create index agent_profiles_newest on agent_profiles (created_at desc, id desc) where deleted_at is null;

-- The public profile: the one rendering for lists, single reads and answers to writes.
create function agent_body(agent agent_profiles) returns jsonb
language sql stable parallel safe
return jsonb_build_object(
    'id', agent.id, 'user_id', agent.user_id,
    'agency_id', agent.agency_id, 'agency_role', agent.agency_role,
    'display_name', agent.display_name, 'company_name', agent.company_name, 'license', agent.license,
    'specializations', agent.specializations, 'bio', agent.bio, 'website', agent.website,
    'facebook', agent.facebook, 'twitter', agent.twitter, 'linkedin', agent.linkedin,
    'contact_phone', agent.contact_phone, 'contact_email', agent.contact_email,
    'rating', agent.rating, 'review_count', agent.review_count, 'properties_sold', agent.properties_sold,
    'country', agent.country, 'created_at', utc(agent.created_at), 'updated_at', utc(agent.updated_at));
