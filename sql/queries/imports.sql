-- Imports: files on their way in, and listings on their way out. What is imported is written by the listings.

-- name: hold_imports
-- What one person imports comes one after the other, so that a reference is never given to two listings.
select true as held from pg_advisory_xact_lock(hashtextextended('imports ' || $1::uuid, 0));

-- name: begin_import
-- No row where the person has $7 under way; what has been coming in since before $8 will not come any more.
insert into imports (owner_id, name, format, columns, next_byte, next_line)
select $1::uuid, $2, $3, $4::text[], $5, $6
where (select count(*) from imports
       where owner_id = $1 and (state = 'running' or state = 'receiving' and created_at > $8)) < $7::int
returning id;

-- name: add_part
-- A part of the file, where it waits for its turn.
insert into import_parts (import_id, n, bytes) values ($1, $2, $3);

-- name: find_same_file
-- The same file by the same person, after a moment: somebody pressed the button twice.
select id from imports
where owner_id = $1 and sha256 = $2 and state in ('running', 'finished') and created_at > $3
order by created_at desc limit 1;

-- name: run_import
-- The file is there. No row where it was forgotten meanwhile.
update imports set state = 'running', sha256 = $2, bytes = $3, updated_at = now()
where id = $1 and state = 'receiving'
returning id;

-- name: hold_forgettable
-- Those that have not begun to run, or ended before $2 (null: none). A statement of its own: it waits for whatever part
-- or beginning of theirs is being committed just now, and what follows sees that.
select id from imports
where id = any ($1::uuid[]) and (state = 'receiving' or ended_at < $2)
order by id for update;

-- name: forget_imports
-- With all they have, after they are held; the listings and their references stay.
with parts as (
    delete from import_parts where import_id = any ($1::uuid[])
), errors as (
    delete from import_errors where import_id = any ($1::uuid[])
)
delete from imports where id = any ($1::uuid[]);

-- name: old_imports
-- What never came in whole ($1), and what ended long ago ($2); some of them.
(select id from imports where state = 'receiving' and created_at < $1 limit $3)
union all
(select id from imports where ended_at < $2 limit $3);

-- name: take_import
-- The import, held until the transaction ends; no row where it has ended or this place was passed before.
select owner_id, format, columns, bytes, next_byte, next_line, in_long_row, torn, errors
from imports where id = $1 and state = 'running' and next_byte = $2
for no key update;

-- name: read_parts
-- The parts of the file from one to another.
select bytes as part from import_parts where import_id = $1 and n between $2 and $3 order by n;

-- name: known_references
-- Which of these names are of listings that the person has: names of earlier imports, or else ids. One by one by their
-- keys (`offset 0`): any other plan looks at all that the person has, and is still in use when that has become much.
select asked.reference, listing.id as listing_id, listing.kind, listing.status
from unnest($2::text[], $3::uuid[]) as asked (reference, id)
cross join lateral (
    select id, owner_id, kind, status, deleted_at from listings
    where id = coalesce((select listing_id from import_references as known
                         where known.owner_id = $1 and known.reference = asked.reference), asked.id)
    offset 0
) as listing
where listing.owner_id = $1 and listing.deleted_at is null;

-- name: hold_known
-- What a chunk is about to change or delete, in the order in which everybody holds listings; files have another one.
select id from listings where id = any ($1::uuid[]) order by id for no key update;

-- name: keep_references
-- What new listings are called; a name whose listing is gone is free again.
insert into import_references (owner_id, reference, listing_id)
select $1::uuid, reference, listing_id from unnest($2::text[], $3::uuid[]) as given (reference, listing_id)
on conflict (owner_id, reference) do update set listing_id = excluded.listing_id;

-- name: keep_errors
-- What was wrong, in the order of the lines.
insert into import_errors (import_id, line, pointer, code, detail)
select $1::uuid, line, pointer, code, detail
from unnest($2::int[], $3::text[], $4::text[], $5::text[]) as fault (line, pointer, code, detail);

-- name: advance_import
-- How far it has come, in the same transaction as what was written.
update imports
set next_byte = $2, next_line = $3, in_long_row = $4,
    rows = rows + $5::int + $6::int + $7::int + $8::int, created = created + $5::int, changed = changed + $6::int,
    deleted = deleted + $7::int, failed = failed + $8::int, torn = torn + $9::int, errors = errors + $10::int,
    updated_at = now()
where id = $1
returning state, rows, failed, next_byte, bytes;

-- name: end_import
-- The import is over and its file goes. No row where it was over before, or is another person's.
with ended as (
    update imports set state = $3, reason = $4, ended_at = now(), updated_at = now()
    where id = $1 and owner_id = $2 and state = 'running'
    returning *
), parts as (
    delete from import_parts using ended where import_id = ended.id
)
select state, rows, failed, next_byte, bytes from ended;

-- name: list_imports
-- A person's imports, newest first, and how many there are, counted no further than $4.
with page as (
    select imports as import from imports where owner_id = $1 and state <> 'receiving'
    order by created_at desc, id desc offset $2 limit $3
)
select (select count(*) from (
            select from imports where owner_id = $1 and state <> 'receiving' limit $4) as counted)::int as total,
       (select coalesce(jsonb_agg(import_body(import) order by (import).created_at desc, (import).id desc), '[]')
        from page) as body;

-- name: get_import
-- One's own.
select import_body(imports) as body from imports where id = $1 and owner_id = $2 and state <> 'receiving';

-- name: list_errors
-- What was wrong in one's own import, in the order of the file; no row where there is no such import.
select errors as total,
       (select coalesce(jsonb_agg(jsonb_build_object(
                   'line', line, 'pointer', pointer, 'code', code, 'detail', detail) order by id), '[]')
        from (select * from import_errors where import_id = imports.id order by id offset $3 limit $4) as page) as body
from imports where id = $1 and owner_id = $2 and state <> 'receiving';

-- name: export_listings
-- Some of what a person ($1) and their agency ($2, null: none) have, newest first, from a place in that order on. What
-- others call theirs may be the name of something else here: theirs go by their ids.
select page.id, page.created_at, coalesce(known.reference, page.id::text) as reference,
       convert_to(replace(document, chr(1), '') || '}', 'UTF8') as document
from (
    (select id, created_at from listings
     where owner_id = $1 and kind = any ($3::text[]) and deleted_at is null and (created_at, id) < ($4, $5)
     order by created_at desc, id desc limit $6)
    union all
    (select id, created_at from listings
     where agency_id = $2 and owner_id <> $1 and kind = any ($3::text[]) and deleted_at is null
       and (created_at, id) < ($4, $5)
     order by created_at desc, id desc limit $6)
    order by created_at desc, id desc limit $6
) as page
join listing_texts using (id)
left join import_references as known on known.listing_id = page.id and known.owner_id = $1
order by page.created_at desc, page.id desc;
