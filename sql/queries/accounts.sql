-- People, sign-ins and refresh tokens.

-- name: add_user
-- A taken address answers no row, so that registering looks the same to a stranger.
insert into users (email, password_hash, full_name)
values ($1::text, $2, $3)
on conflict (email) where deleted_at is null do nothing
returning id;

-- name: find_credentials
-- What signing in needs to know of an address.
select id, password_hash, is_active from users where email = $1::text::citext and deleted_at is null;

-- name: open_sign_in
-- A sign-in and its first refresh token belong together.
with opened as (
    insert into sign_ins (user_id, device) values ($1, $2) returning id
)
insert into refresh_tokens (sign_in_id, issued_at, expires_at)
select id, $3, $4 from opened
returning sign_in_id, id as token_id;

-- name: lock_sign_in
-- Refreshes of one sign-in happen one after the other, and never together with its revocation.
select sign_ins.user_id, sign_ins.revoked_at is null and users.is_active and users.deleted_at is null as alive
from sign_ins join users on users.id = sign_ins.user_id
where sign_ins.id = $1
for no key update of sign_ins;

-- name: find_refresh_token
-- A token's place in its chain, to tell a rotation, a lost answer and a theft apart.
select issued_at, expires_at, used_at, repeated_at, successor_id
from refresh_tokens where id = $1 and sign_in_id = $2;

-- name: rotate_refresh_token
-- One token ends and its successor begins in the same moment.
with successor as (
    insert into refresh_tokens (sign_in_id, issued_at, expires_at)
    select sign_in_id, $2, $3 from refresh_tokens where id = $1
    returning id
)
update refresh_tokens set used_at = $2, successor_id = successor.id
from successor where refresh_tokens.id = $1
returning successor.id;

-- name: note_repeat
-- A lost answer may be asked for once more, not twice.
update refresh_tokens set repeated_at = $2 where id = $1;

-- name: revoke_sign_in
-- Ends a sign-in once; ending it again changes nothing and tells nobody.
update sign_ins set revoked_at = now(), revoked_because = $2
where id = $1 and revoked_at is null
returning user_id;

-- name: sign_in_states
-- What every authenticated call rests on: is the sign-in alive, and in which role.
select sign_ins.id, sign_ins.user_id, users.role,
       sign_ins.revoked_at is null and users.is_active and users.deleted_at is null as alive
from sign_ins join users on users.id = sign_ins.user_id
where sign_ins.id = any ($1::uuid[]);

-- name: get_users
-- Accounts as their owners see them, each asking for its own.
select id, jsonb_build_object(
    'id', id, 'email', email, 'phone', phone, 'full_name', full_name, 'avatar', avatar, 'role', role,
    'is_verified', is_verified, 'is_active', is_active, 'country', country,
    'created_at', utc(created_at), 'updated_at', utc(updated_at)) as body
from users where id = any ($1::uuid[]) and deleted_at is null;

-- name: find_role
-- As what somebody may act who is not asking just now; no row for an account that does not live.
select role from users where id = $1 and is_active and deleted_at is null;

-- name: set_role
-- Becoming an agent widens what a buyer or seller may do; an admin stays one.
update users set role = $2, updated_at = now() where id = $1 and role <> 'admin';
