-- How far each device has everything of a stream. The greatest offset of the numbering that `epoch` names: offsets of
-- an earlier one say nothing.
create table acknowledgements (
    stream_id bigint not null references streams,
    sign_in_id uuid not null references sign_ins on delete cascade,
    epoch text not null,
    "offset" bigint not null check ("offset" >= 0),
    at timestamptz not null default now(),
    primary key (stream_id, sign_in_id)
);
create index acknowledgements_sign_in on acknowledgements (sign_in_id);
