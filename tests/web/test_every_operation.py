"""Whatever is sent to any operation, the answer is one that the document knows, and never a fault of the service.

Schemathesis makes the requests from the document: such as it allows, and such as it forbids. Half of them are about
things that there are, and whoever asks may do everything. The same requests are made each time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from k2k.app import OPERATIONS
from k2k.core.settings import Settings
from k2k.web import openapi
from tests.support import PREFIX, People, Subprocess, free_port

EACH = 12
"""Requests of each operation, right ones and as many wrong ones."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def operations() -> Iterator[APIOperation[Any, Any, Any, Any]]:
    for found in schemathesis.openapi.from_dict(openapi.document(OPERATIONS)).get_all_operations():
        assert isinstance(found, Ok), found
        yield found.ok()


MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
TOLD = {operation.label: operation for operation in operations()}
# Where nothing can be sent, nothing wrong can be.
TAKES = {label: bool([*operation.iter_parameters(), *operation.body]) for label, operation in TOLD.items()}


@pytest.fixture(scope="module")
async def address(settings: Settings) -> AsyncIterator[str]:
    """A process of its own: the tests here hold up the one that they run in."""
    process = await Subprocess.start(settings, free_port())
    yield process.api.base
    await process.kill()


@dataclass(frozen=True)
class Somebody:
    """Who asks, and things of theirs by the names that placeholders in addresses have."""

    token: str
    things: Mapping[str, str]


@pytest.fixture
async def somebody(people: People, label: str) -> Somebody:
    """Everything is there that the address of the operation names, for something it does may be the end of it."""
    owner, agency = await people.agency()
    listing = await people.listing(owner)
    made: dict[str, Callable[[], Awaitable[UUID]]] = {
        "agent_id": lambda: people.colleague(owner),
        "image_id": lambda: people.image(owner, listing),
        "media_id": lambda: people.upload(owner),
        "other_id": lambda: people.listing(owner),
    }
    things = {name: str(await make()) for name, make in made.items() if f"{{{name}}}" in label}
    things |= {"agency_id": str(agency), "listing_id": str(listing), "user_id": str(owner.id), "brand": "Toyota"}
    things |= await people.enquire(await people.buyer(), listing)
    await people.promote(owner)
    return Somebody(owner.token, things)


@pytest.mark.parametrize("label", TOLD)
def test_the_answer_is_one_that_is_documented(label: str, address: str, somebody: Somebody) -> None:
    for mode in MODES if TAKES[label] else (GenerationMode.POSITIVE,):
        ask(TOLD[label].as_strategy(generation_mode=mode), address, somebody)


def ask(cases: SearchStrategy[Case[Any]], address: str, somebody: Somebody) -> None:
    @given(case=cases, real=st.booleans())
    @hypothesis_settings(
        max_examples=EACH,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def asked(case: Case[Any], real: bool) -> None:
        if real:
            case.path_parameters |= {
                name: somebody.things.get(name, value) for name, value in case.path_parameters.items()
            }
        token = {"Authorization": f"Bearer {somebody.token}"}
        case.call_and_validate(base_url=address + PREFIX, headers=token, checks=CHECKS)

    asked()
