-- People, their sign-ins (one a device) and the refresh tokens that keep a sign-in alive.

create table users (
    id uuid primary key default uuidv7(),
    email citext check (length(email) <= 254),
    phone text check (phone ~ '^\+[1-9][0-9]{6,14}$'),
    password_hash text not null,
    full_name text not null check (length(full_name) between 1 and 200),
    avatar text,
    role text not null default 'buyer' check (role in ('buyer', 'seller', 'agent', 'admin')),
    is_verified boolean not null default false,
    is_active boolean not null default true,
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    check (email is not null or phone is not null)
);
create unique index users_email on users (email) where deleted_at is null;
create unique index users_phone on users (phone) where deleted_at is null;

create table sign_ins (
    id uuid primary key default uuidv7(),
    user_id uuid not null references users,
    device text not null default '',
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    revoked_because text check ((revoked_at is null) = (revoked_because is null))
);
create index sign_ins_user on sign_ins (user_id) where revoked_at is null;

-- The chain of a sign-in's refresh tokens. A token is signed, so its id alone is worth nothing to a thief; from the
-- row of a lost answer's successor the very same token can be made again.
create table refresh_tokens (
    id uuid primary key default uuidv7(),
    sign_in_id uuid not null references sign_ins,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    successor_id uuid references refresh_tokens,
    repeated_at timestamptz
);
create index refresh_tokens_sign_in on refresh_tokens (sign_in_id);
