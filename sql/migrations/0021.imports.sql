-- What people bring in as files: the file in parts until its import has ended, how far that has come, what was wrong.

create table imports (
    id uuid primary key default uuidv7(),
    owner_id uuid not null references users,
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    name text not null check (length(name) between 1 and 255),
    format text not null check (format in ('csv', 'jsonl')),
    -- The header, where the format has one.
    columns text[] not null,
    -- receiving: its parts are still coming in; running: a job works on it.
    state text not null default 'receiving' check (state in (
        'receiving', 'running', 'finished', 'failed', 'cancelled')),
    reason text check (reason in ('denied', 'unreadable')),
    sha256 bytea check (length(sha256) = 32),
    bytes bigint not null default 0 check (bytes >= 0),
    -- Where reading goes on; in the middle of a row only where that row is too long to be read at all.
    next_byte bigint not null check (next_byte >= 0),
    next_line int not null check (next_line > 0),
    in_long_row boolean not null default false,
    rows int not null default 0,
    created int not null default 0,
    changed int not null default 0,
    deleted int not null default 0,
    failed int not null default 0,
    -- Rows whose quote was never closed, and what is kept in import_errors.
    torn int not null default 0,
    errors int not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    ended_at timestamptz,
    check ((state in ('receiving', 'running')) = (ended_at is null)),
    check ((state = 'receiving') = (sha256 is null)),
    check ((state = 'failed') = (reason is not null)),
    check (rows = created + changed + deleted + failed)
);
create index imports_owner on imports (owner_id, created_at desc, id desc);
create index imports_file on imports (owner_id, sha256);
create index imports_receiving on imports (created_at) where state = 'receiving';
create index imports_ended on imports (ended_at);

create table import_parts (
    import_id uuid not null references imports,
    n int not null check (n >= 0),
    bytes bytea not null check (length(bytes) between 1 and 262144),
    primary key (import_id, n)
);
-- Written once, read once or twice: not worth compressing.
alter table import_parts alter column bytes set storage external;

create table import_errors (
    id bigint generated always as identity primary key,
    import_id uuid not null references imports,
    line int not null,
    pointer text not null,
    code text not null,
    detail text not null
);
create index import_errors_import on import_errors (import_id, id);

-- What sellers call their listings.
create table import_references (
    owner_id uuid not null references users,
    reference text not null check (length(reference) between 1 and 100),
    listing_id uuid not null unique references listings,
    primary key (owner_id, reference)
);

create function import_body(import imports) returns jsonb language sql stable parallel safe
return jsonb_build_object(
    'id', import.id, 'name', import.name, 'format', import.format, 'state', import.state, 'reason', import.reason,
    'bytes', import.bytes, 'rows', import.rows, 'created', import.created, 'changed', import.changed,
    'deleted', import.deleted, 'failed', import.failed,
    'percent', import.next_byte * 100 / greatest(import.bytes, 1),
    'created_at', utc(import.created_at), 'updated_at', utc(import.updated_at), 'ended_at', utc(import.ended_at));
