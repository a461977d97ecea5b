-- What people upload. The bytes lie in storage; here stands what is known of them, and whose they are.

-- name: uploads_since
-- How much of what one person has uploaded after that moment is there.
select count(*)::int as uploads from media where owner_id = $1 and created_at > $2;

-- name: hold_uploading
-- What one person adds is counted and added one after the other.
select true as held from pg_advisory_xact_lock(hashtextextended('uploading ' || $1::uuid, 0));

-- name: touch_known
-- What this person has uploaded before is there already; if nothing refers to it, its day begins anew.
update media set ready_at = $4
where id in (
    select id from media
    where owner_id = $1 and purpose = $2 and sha256 = any ($3::bytea[]) and state = 'ready'
    order by id for update)
returning id, sha256;

-- name: add_uploads
-- Announced: their bytes are to come, from here or from their owner.
insert into media (owner_id, purpose, state, name, media_type, bytes, sha256, created_at)
select $1::uuid, $2::text, 'waiting', name, media_type, bytes, sha256, $7::timestamptz
from unnest($3::text[], $4::text[], $5::bigint[], $6::bytea[]) as sent (name, media_type, bytes, sha256)
returning id, sha256;

-- name: finish_upload
-- Looked at, and stored. Of two who finish the same upload the second finds it done.
update media
set state = 'ready', ready_at = $2, media_type = $3, width = $4, height = $5, color = $6, blurhash = $7, phash = $8
where id = $1 and state = 'waiting';

-- name: find_upload
-- What was announced, for its owner only.
select id, purpose, state, name, media_type, bytes as size, sha256 from media where id = $1 and owner_id = $2;

-- name: get_upload
-- One upload as its owner reads it.
select media_body(media, $3) as body from media where id = $1 and owner_id = $2;

-- name: list_uploads
-- Uploads in the order asked for.
select coalesce(jsonb_agg(media_body(media, $2) order by place), '[]') as body
from unnest($1::uuid[]) with ordinality as asked (id, place) join media using (id);

-- name: hold_images
-- Images that are this person's and ready; nobody collects them before the transaction ends.
select id, sha256 from media
where id = any ($1::uuid[]) and owner_id = $2 and purpose = 'image' and state = 'ready'
order by id for key share;

-- name: hold_upload
-- Somebody who is about to show it is waited for.
select id from media where id = $1 and owner_id = $2 for update;

-- name: delete_upload
-- Nobody but its owner, and only while nothing shows it.
delete from media
where id = $1 and owner_id = $2 and not exists (select from images where media_id = media.id)
returning id, purpose;

-- name: hold_waiting
-- Waiting for longer than anything may wait, the oldest first, after the one that was told last.
select id, created_at from media
where state = 'waiting' and created_at < $1 and (created_at, id) > ($2, $3)
order by created_at, id limit $4 for update skip locked;

-- name: next_media
-- A page of all there is. Whether something refers to a row is asked of a page at a time: asked of all at once, every
-- picture that is shown would be looked at before the first that is not.
select id from media where id > $1 order by id limit $2;

-- name: hold_orphans
-- Those of a page that are ready and that nothing has referred to since that moment. What somebody is about to refer
-- to is held by them and passed over.
select id from media
where id = any ($1::uuid[]) and state = 'ready' and ready_at < $2
  and not exists (select from images where media_id = media.id)
order by id for update skip locked;

-- name: delete_orphans
-- A statement of its own, for only a later one sees who came to refer to them before they were held.
delete from media
where id = any ($1::uuid[]) and not exists (select from images where media_id = media.id)
returning id, purpose;

-- name: known_media
-- Which of these there are, so that files of no other can be known for left over.
select id, state from media where id = any ($1::uuid[]);
