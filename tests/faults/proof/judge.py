"""Looks at what the database holds and says what was broken; at the end, by `last_word`, from the history alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.faults.proof.history import lines

if TYPE_CHECKING:
    Database = asyncpg.Connection[asyncpg.Record]

STORED = """
    select client_id, id::text as id, seq, count(*) over (partition by client_id) as times
    from messages where client_id = any ($1)"""
# `top_seq` counts a conversation's messages: with no number missing or twice, all four agree.
CONVERSATIONS = """
    select conversations.id::text as id, top_seq, count(seq) as stored, count(distinct seq) as numbers,
           coalesce(min(seq), 1) as first, coalesce(max(seq), 0) as last
    from conversations left join messages on messages.conversation_id = conversations.id
    group by conversations.id"""
STREAMS = """
    select channel, top, count("offset") as stored, coalesce(min("offset"), 1) as first,
           coalesce(max("offset"), 0) as last
    from streams left join events on events.stream_id = streams.id
    group by streams.id"""
# Every message was told to everybody who takes part: exactly one event each, in their own stream.
UNTOLD = """
    select messages.client_id, people.user_id::text as person, count(told.offset) as times
    from messages
    join leads on leads.id = (select lead_id from conversations where conversations.id = messages.conversation_id)
    cross join lateral (values (leads.buyer_id), (leads.claimed_by)) as people (user_id)
    left join streams on streams.channel = 'user:' || people.user_id
    left join (
        select stream_id, "offset", data->>'message_id' as message from events where type = 'message.new') as told
        on told.stream_id = streams.id and told.message = messages.id::text
    where people.user_id is not null and (messages.created_at >= leads.claimed_at or people.user_id = leads.buyer_id)
    group by messages.client_id, messages.id, people.user_id
    having count(told.offset) <> 1"""
# A buyer's enquiry was offered to the agency once, and claimed once, whoever heard of it.
UNTOLD_LEADS = """
    select lead::text as lead, kind, count(told.offset) as times
    from unnest($1::uuid[]) as lead
    cross join (values ('lead.offered'), ('lead.claimed')) as kinds (kind)
    left join (
        select type, data->>'lead_id' as lead_id, "offset" from events join streams on streams.id = events.stream_id
        where channel like 'agency:%') as told on told.type = kind and told.lead_id = lead::text
    group by lead, kind
    having count(told.offset) <> 1"""
# Every change of a price says which price was before: the one of the event before. The last is what stands.
PRICES = """
    select channel, (data->>'price')::numeric as price, (data->>'previous_price')::numeric as previous,
           lag((data->>'price')::numeric) over stream as before,
           case when lead("offset") over stream is null then listings.price end as stands
    from events join streams on streams.id = events.stream_id
    join listings on channel = 'listing:' || listings.id
    where events.type = 'listing.price_changed'
    window stream as (partition by streams.id order by "offset")"""
STORED_TWICE = """
    select client_id from messages group by conversation_id, sender_id, client_id having count(*) > 1"""
FORGOTTEN = """
    select pid, state, query from pg_stat_activity
    where application_name = 'k2k' and state like 'idle in transaction%'
      and state_change < now() - interval '1 second'"""
WON = "select count(*) from leads where id = any ($1::uuid[]) and claimed_by is null"
TWICE = "select title from listings where title = any ($1) group by title having count(*) <> 1"
TOPS = "select channel, top from streams where channel = any ($1)"
CONTENT = """
    select "offset", events.id::text as id from events join streams on streams.id = events.stream_id
    where channel = $1 order by "offset" """


@dataclass(frozen=True)
class Violation:
    """What was broken, and the words by which the history of it is found."""

    what: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what}  [{', '.join(self.words)}]"


@dataclass
class Wish:
    ok: dict[str, Any] | None = None
    failed: bool = False


@dataclass
class Heard:
    """What one device was told: its events by offset, and the places it was put to."""

    events: list[tuple[int, str]] = field(default_factory=list)
    first: int | None = None
    skipped: set[int] = field(default_factory=set)


@dataclass
class Told:
    """The history: messages by client_id, what each device heard of each channel, races, and prices acknowledged."""

    wishes: dict[str, Wish] = field(default_factory=dict)
    heard: dict[tuple[str, str], Heard] = field(default_factory=lambda: defaultdict(Heard))
    races: list[dict[str, Any]] = field(default_factory=list)
    prices: list[tuple[str, int]] = field(default_factory=list)


async def shape(database: Database) -> list[Violation]:
    """Conversations and streams are numbered from 1 without holes."""
    found = []
    for row in await database.fetch(CONVERSATIONS):
        if not row["top_seq"] == row["stored"] == row["numbers"] == row["last"] or row["first"] != 1:
            found.append(Violation(f"conversation {dict(row)} is not numbered 1..top", (row["id"],)))
    for row in await database.fetch(STREAMS):
        if not row["top"] == row["stored"] == row["last"] or row["first"] != 1:
            found.append(Violation(f"stream {dict(row)} is not numbered 1..top", (row["channel"],)))
    return found


async def kept(database: Database, acknowledged: Sequence[tuple[str, dict[str, Any]]]) -> list[Violation]:
    """Every acknowledged message is stored exactly once, with the id and seq that were acknowledged."""
    found = []
    for start in range(0, len(acknowledged), 5000):
        part = dict(acknowledged[start : start + 5000])
        stored = {row["client_id"]: row for row in await database.fetch(STORED, list(part))}
        for id_, ok in part.items():
            row = stored.get(id_)
            if row is None:
                found.append(Violation(f"{id_} was acknowledged as seq {ok['seq']} and is not stored", (id_,)))
            elif (row["id"], row["seq"], row["times"]) != (ok["message"], ok["seq"], 1):
                found.append(Violation(f"{id_} was acknowledged as {ok} and is stored as {dict(row)}", (id_,)))
    return found


async def stored(database: Database, ids: Sequence[str]) -> int:
    """How many of the messages with these client_ids are there."""
    return len(await database.fetch(STORED, ids))


async def forgotten(database: Database) -> list[str]:
    """Transactions that have been open for a second while nobody does anything in them."""
    return [f"{row['pid']} {row['state']}: {row['query']}" for row in await database.fetch(FORGOTTEN)]


async def last_word(database: Database, path: Path, channels: Sequence[tuple[str, str]]) -> list[Violation]:
    """Every invariant, over the whole history. `channels`: pairs of a device and what it followed."""
    history = _read(path)
    wishes, races = history.wishes, history.races
    found = await shape(database)
    found += await kept(database, [(id_, wish.ok) for id_, wish in wishes.items() if wish.ok is not None])
    failed = [id_ for id_, wish in wishes.items() if wish.failed]
    for row in await database.fetch(STORED, failed):
        found.append(Violation(f"{row['client_id']} was refused and is stored", (row["client_id"],)))
    for row in await database.fetch(UNTOLD):
        found.append(
            Violation(f"{row['client_id']} was told {row['times']} times to {row['person']}", (row["client_id"],))
        )
    for row in await database.fetch(STORED_TWICE):
        found.append(Violation(f"{row['client_id']} is stored twice", (row["client_id"],)))
    found += await _priced(database, history.prices)
    for row in await database.fetch(UNTOLD_LEADS, [race["lead"] for race in races]):
        found.append(
            Violation(f"the agency was told {row['times']} times: {row['kind']} {row['lead']}", (row["lead"],))
        )
    if await database.fetchval(WON, [race["lead"] for race in races]):
        found.append(Violation("a lead that was won is not claimed", ("race",)))
    for row in await database.fetch(TWICE, [race["title"] for race in races]):
        found.append(Violation(f"{row['title']}: not exactly one listing for one Idempotency-Key", ("race",)))
    for device, channel in channels:
        found += await _complete(database, device, channel, history.heard[device, channel])
    return found


async def _priced(database: Database, acknowledged: Iterable[tuple[str, int]]) -> list[Violation]:
    """Each change of a price was told, in the order in which they happened."""
    found, told = [], set()
    for row in await database.fetch(PRICES):
        told.add((row["channel"], int(row["price"])))
        if row["before"] not in (None, row["previous"]) or row["stands"] not in (None, row["price"]):
            found.append(
                Violation(f"the price {dict(row)} does not follow from what was told before", (row["channel"],))
            )
    for channel, price in acknowledged:
        if (channel, price) not in told:
            found.append(Violation(f"the price {price} of {channel} was acknowledged and never told", (channel,)))
    return found


async def tops(database: Database, channels: Iterable[str]) -> dict[str, int]:
    """Where the streams stand."""
    return {row["channel"]: row["top"] for row in await database.fetch(TOPS, list(channels))}


async def _complete(database: Database, device: str, channel: str, heard: Heard) -> list[Violation]:
    """What the device heard is the stream from its first place on, in order, each event once."""
    if heard.first is None:
        return [Violation(f"{device} never followed {channel}", (device,))]
    content = [(row["offset"], row["id"]) for row in await database.fetch(CONTENT, channel)]
    wanted = [one for one in content if one[0] > heard.first and one[0] not in heard.skipped]
    if heard.events == wanted:
        return []
    wrong = next((pair for pair in zip(heard.events, wanted, strict=False) if pair[0] != pair[1]), None)
    told = f"heard {len(heard.events)} of {len(wanted)} events of {channel}"
    if wrong is not None:
        told = f"heard {wrong[0]} where {wrong[1]} stands in {channel}"
    return [Violation(f"{device} {told}", (f'"device": "{device}"',))]


def _read(path: Path) -> Told:
    told = Told()
    for line in lines(path):
        match line:
            case {"kind": "invoke", "op": "send", "id": id_}:
                told.wishes[id_] = Wish()
            case {"kind": "ok", "id": id_, "seq": _} if id_ in told.wishes:
                told.wishes[id_].ok = line
            case {"kind": "fail", "id": id_}:
                told.wishes[id_].failed = True
            case {"kind": "ok", "lead": _}:
                told.races.append(line)
            case {"kind": "ok", "listing": channel, "price": price}:
                told.prices.append((channel, price))
            case {"kind": "event", "device": device, "channel": channel, "offset": offset, "id": id_}:
                told.heard[device, channel].events.append((offset, id_))
            case {"kind": "joined", "device": device, "channel": channel, "offset": offset, "since": None}:
                told.heard[device, channel].first = offset
            case {
                "kind": "joined", "device": device, "channel": channel, "offset": offset, "since": since,
                "recovered": False,
            }:  # fmt: skip
                told.heard[device, channel].skipped.update(range(since + 1, offset + 1))
            case _:
                pass
    return told
