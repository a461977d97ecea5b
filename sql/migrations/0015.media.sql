-- What people upload. Bytes lie in storage, under names made from the id that are never used for anything else.

create table media (
    id uuid primary key default uuidv7(),
    owner_id uuid not null references users,
    purpose text not null check (purpose in ('image', 'document')),
    -- waiting: announced, its bytes are to come by themselves; ready: looked at and stored.
    state text not null check (state in ('waiting', 'ready')),
    name text check (length(name) between 1 and 255),
    media_type text not null check (length(media_type) between 1 and 100),
    bytes bigint not null check (bytes > 0),
    -- Of what was sent, so that the same picture twice is known for one.
    sha256 bytea not null check (length(sha256) = 32),
    width int check (width > 0),
    height int check (height > 0),
    color text check (color ~ '^#[0-9a-f]{6}$'),
    blurhash text check (length(blurhash) between 6 and 100),
    -- A difference hash: pictures that look alike differ in a few of its 64 bits.
    phash bigint,
    country text not null default 'ET' check (country ~ '^[A-Z]{2}$'),
    created_at timestamptz not null default now(),
    -- When it was last found to be there and right. An orphan's day begins then.
    ready_at timestamptz,
    check (state = 'waiting' or ready_at is not null),
    check (state = 'waiting' or purpose = 'document'
           or (width is not null and height is not null and color is not null and blurhash is not null
               and phash is not null))
);
create index media_owner on media (owner_id, created_at desc);
create index media_waiting on media (created_at, id) where state = 'waiting';

-- The name under which one size of an image lies in storage.
create function media_key(id uuid, size text) returns text language sql immutable parallel safe strict
return 'images/' || id::text || '-' || size || '.webp';

-- An upload as its owner gets it; `host` is the address of the media.
create function media_body(upload media, host text) returns jsonb language sql stable parallel safe
return jsonb_build_object(
    'id', upload.id, 'purpose', upload.purpose, 'state', upload.state, 'name', upload.name,
    'media_type', upload.media_type, 'bytes', upload.bytes, 'sha256', encode(upload.sha256, 'hex'),
    'width', upload.width, 'height', upload.height, 'color', upload.color, 'blurhash', upload.blurhash,
    'url', case when upload.width is not null then host || media_key(upload.id, 'large') end,
    'medium_url', case when upload.width is not null then host || media_key(upload.id, 'medium') end,
    'small_url', case when upload.width is not null then host || media_key(upload.id, 'small') end,
    'created_at', utc(upload.created_at), 'ready_at', utc(upload.ready_at));

-- A 64-bit hash cut in four. Hashes that differ in at most three bits have one of the four in common.
create function hash_bands(hash bigint) returns int[] language sql immutable parallel safe strict
return array[
    (hash & 65535)::int,
    65536 + ((hash >> 16) & 65535)::int,
    131072 + ((hash >> 32) & 65535)::int,
    196608 + ((hash >> 48) & 65535)::int];
create index media_looks on media using gin (hash_bands(phash)) where phash is not null;
