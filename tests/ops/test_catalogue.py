"""The catalogue of errors: each has a code and a number of its own, and an operation's follow from its shape."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter

import pytest

import k2k
from k2k.core.errors import (
    Denied,
    DomainError,
    Internal,
    Invalid,
    Limited,
    OutcomeUnknown,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)
from k2k.features.leads.errors import LeadTaken
from k2k.ops.call import Call
from k2k.ops.catalogue import all_errors, errors_of
from k2k.ops.permissions import Permission
from k2k.ops.registry import Operation, Routes
from k2k.ops.validation import Answer, Input, MalformedJson
from k2k.web.catalogue import http_status

FRAME = range(1000, 1100)
"""The numbers of what is no feature's: core, ops and the doors."""

EVERY = {Invalid, Limited, Internal, Unavailable}
SIGNED_IN = EVERY | {Unauthenticated, TokenExpired}

ERRORS = all_errors()


class Wish(Input):
    text: str


def owner(error: type[DomainError]) -> str:
    """`features.leads` and the like, or `frame`."""
    _, room, *rest = error.__module__.split(".")
    return f"{room}.{rest[0]}" if room in {"features", "flows"} else "frame"


def test_everything_that_can_be_raised_is_in_the_catalogue() -> None:
    for found in pkgutil.walk_packages(k2k.__path__, "k2k."):
        importlib.import_module(found.name)
    assert all_errors() == ERRORS


def test_no_two_errors_share_a_code_a_number_or_a_name() -> None:
    for names in (
        [error.code for error in ERRORS],
        [str(error.number) for error in ERRORS],
        [error.__name__ for error in ERRORS],
    ):
        assert [name for name, count in Counter(names).items() if count > 1] == []


def test_each_feature_numbers_its_errors_in_a_hundred_of_its_own() -> None:
    hundreds: dict[str, set[int]] = {}
    for error in ERRORS:
        hundreds.setdefault(owner(error), set()).add(error.number // 100)
    assert hundreds.pop("frame") == {FRAME.start // 100}
    flows = {name: hundreds.pop(name) for name in list(hundreds) if name.startswith("flows.")}
    assert {name: found for name, found in hundreds.items() if len(found) > 1} == {}
    taken = [hundred for found in hundreds.values() for hundred in found]
    assert len(set(taken)) == len(taken)
    assert min(taken) * 100 >= FRAME.stop
    # A flow numbers its errors in the hundred of a feature that it is about.
    assert set().union(*flows.values()) <= set(taken)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_says_what_it_is_and_means(error: type[DomainError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code)
    assert error.title
    assert not error.title.endswith(".")
    assert vars(error).get("__doc__")
    assert 400 <= http_status(error) < 600


async def ask(call: Call) -> Answer:
    raise NotImplementedError


async def tell(call: Call, body: Wish) -> Answer:
    raise NotImplementedError


def read(may: Permission) -> Operation:
    routes = Routes("things")
    routes.get("/things", may=may)(ask)
    return routes.operations[0]


@pytest.mark.parametrize(
    ("may", "expected"),
    [
        (Permission.sign_in, EVERY),
        (Permission.read_market, SIGNED_IN),
        (Permission.own_account, SIGNED_IN),
        (Permission.claim_leads, SIGNED_IN | {Denied}),
        (Permission.be_agent, SIGNED_IN | {Denied}),
    ],
)
def test_a_permission_leads_to_its_refusals(may: Permission, expected: set[type[DomainError]]) -> None:
    assert set(errors_of(read(may))) == expected


def test_a_body_and_a_write_bring_their_own() -> None:
    routes = Routes("things")
    routes.post("/things", may=Permission.sign_in, raises=(LeadTaken,))(tell)
    routes.delete("/things", may=Permission.sign_in)(ask)
    told, deleted = routes.operations
    assert set(errors_of(told)) == EVERY | {MalformedJson, OutcomeUnknown, LeadTaken}
    assert set(errors_of(deleted)) == EVERY | {OutcomeUnknown}


def test_errors_stand_in_the_order_of_their_numbers() -> None:
    numbers = [error.number for error in errors_of(read(Permission.claim_leads))]
    assert numbers == sorted(numbers)
