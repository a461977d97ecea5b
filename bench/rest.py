"""Two reads against a FastAPI peer: `GET /auth/me` with its sign-in check, and `GET /properties`, a hundred of 2,000.

    make bench ONLY=rest          or, for a look: python -m bench.rest --quick

Every side is one serving process with ten connections to a PostgreSQL of its own that holds the same rows. Before
anything is measured their answers are compared, field by field.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from bench.harness import peers, report
from bench.harness.command import Bench, run
from bench.harness.compare import QUICK, THOROUGH, Comparison, Effort, Scenario, compare, get
from bench.harness.equal import differences
from bench.harness.machine import Cores, versions
from bench.harness.servers import backing, key2key, secret
from bench.harness.window import Side
from k2k.core.ids import SignInId, UserId
from k2k.core.settings import load
from k2k.features.accounts.tokens import Tokens

MARKET = Path(__file__).with_name("market.sql")
PEER = "FastAPI"
PEOPLE = 10_000
CONNECTIONS = 32
# What the peer carries without a queue, so that latencies of an unhurried server are compared.
STEADY = 200.0
ME, PROPERTIES = "/api/v1/auth/me", "/api/v1/properties"


@contextmanager
def sides(key: str, cores: Cores) -> Iterator[list[Side]]:
    """Key2Key on both event loops, and the peer."""
    with ExitStack() as stack:
        found = []
        for loop in ("asyncio", "uvloop"):
            name = f"key2key-{loop}"
            behind = stack.enter_context(backing(name, cores))
            asyncio.run(fill(behind.database_url))
            serving = stack.enter_context(key2key(name, behind, key, cores, loop=loop))
            found.append(Side(f"Key2Key, {loop}", serving, behind))
        behind = stack.enter_context(backing("fastapi", cores))
        asyncio.run(fill(behind.database_url))
        pool = str(load({}).database.pool_max)
        variables = {"DATABASE_URL": behind.database_url, "SECRET": key, "POOL": pool}
        serving = stack.enter_context(peers.uvicorn("fastapi", variables, cores))
        found.append(Side(PEER, serving, behind))
        yield found


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    rows, _, vacuum = MARKET.read_text().rpartition("\n\n")
    await connection.execute(rows)
    await connection.execute(vacuum)  # in no transaction
    await connection.close()


async def tokens(url: str, key: str) -> list[str]:
    """An access token for every sign-in of the market."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select user_id, id from sign_ins order by id limit $1", PEOPLE)
    await connection.close()
    settings = load({}).auth.model_copy(update={"secret": SecretStr(key)})
    make, now = Tokens(settings), datetime.now(UTC)
    return [make.access(UserId(UUID(str(user))), SignInId(UUID(str(sign_in))), now) for user, sign_in in rows]


def fetch(side: Side, path: str, token: str | None = None) -> tuple[Any, int, str | None]:
    """An answer's content, its length and the total it tells."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{side.serving.port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- our own servers
        body = answer.read()
        return json.loads(body), len(body), answer.headers["X-Total-Count"]


def require_equal(found: Sequence[Side], paths: Sequence[tuple[str, str | None]]) -> None:
    """Raises AssertionError with the first differences if two sides do not answer the same."""
    ours, *others = found
    for path, token in paths:
        content, _, total = fetch(ours, path, token)
        for other in others:
            theirs, _, their_total = fetch(other, path, token)
            different = differences(content, theirs)
            assert not different, f"{other.name} answers {path} differently: {'; '.join(different[:5])}"
            assert total == their_total, f"{other.name} counts {their_total}, not {total}"
    print(f"{len(paths)} answers are the same on {len(found)} sides\n", flush=True)


def scenarios(ours: Side, everybody: Sequence[str]) -> list[Scenario]:
    asked = [get(ME, Authorization=f"Bearer {token}") for token in everybody]
    pages = [f"{PROPERTIES}?skip={skip}&limit=100" for skip in range(0, 1000, 100)]
    me, page = fetch(ours, ME, everybody[0])[1], fetch(ours, pages[0])[1]
    few = asked[:CONNECTIONS]
    return [
        Scenario(f"GET /auth/me, {PEOPLE:,} people in turn, {CONNECTIONS} connections", asked, me, CONNECTIONS),
        Scenario(
            f"GET /auth/me, {CONNECTIONS} people again and again, {CONNECTIONS} connections", few, me, CONNECTIONS
        ),
        Scenario(f"GET /auth/me, {PEOPLE:,} people in turn, {STEADY:.0f} a second", asked, me, CONNECTIONS, STEADY),
        Scenario(
            f"GET /properties, 100 of 2,000, {CONNECTIONS} connections",
            [get(path) for path in pages],
            page,
            CONNECTIONS,
        ),
    ]


async def measure_all(
    found: Sequence[Side], everybody: Sequence[str], effort: Effort, cores: Cores
) -> list[Comparison]:
    return [await compare(scenario, found, effort, cores) for scenario in scenarios(found[0], everybody)]


def measure(quick: bool) -> str:
    cores, key = Cores.shared_out(), secret()
    peers.environment("fastapi")
    with sides(key, cores) as found:
        everybody = asyncio.run(tokens(found[0].backing.database_url, key))
        pages = [(f"{PROPERTIES}?skip={skip}&limit=100", None) for skip in (0, 100, 1950, 5000)]
        require_equal(found, [*((ME, token) for token in everybody[:20]), *pages])
        results = asyncio.run(measure_all(found, everybody, QUICK if quick else THOROUGH, cores))
    ours = versions("aiohttp", "asyncpg", "uvloop")
    theirs = peers.versions("fastapi", "fastapi", "sqlalchemy", "asyncpg", "uvicorn", "uvloop")
    return "\n".join(
        [report.conditions(BENCH.name, cores, ours, f"peer: {theirs}"), ""]
        + [report.comparison(result, PEER) for result in results]
    )


BENCH = Bench("rest", measure, minutes=6)

if __name__ == "__main__":
    sys.exit(run([BENCH], __doc__ or ""))
