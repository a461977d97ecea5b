"""Cursors: what was sealed can be opened for the same list, and nothing else can."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr

from k2k.core.errors import Invalid
from k2k.core.settings import AuthSettings, load
from k2k.ops.paging import Birth, BirthRow, Cursors

PLACE = Birth(created_at=datetime(2026, 11, 22, 10, 0, 0, 123456, UTC), id=UUID("0198c0de-0000-7000-8000-00000000cafe"))


class Distance(BaseModel):
    metres: int


def auth(secret: str, *previous: str) -> AuthSettings:
    secrets = {"secret": SecretStr(secret), "previous_secrets": tuple(map(SecretStr, previous))}
    return load({}).auth.model_copy(update=secrets)


@pytest.fixture
def cursors() -> Cursors:
    return Cursors(auth("one secret"))


def sealed(cursors: Cursors, list_: str = "offers new") -> str:
    cursor = cursors.seal(list_, PLACE)
    assert cursor is not None
    return cursor


def test_a_place_comes_back_to_the_microsecond(cursors: Cursors) -> None:
    assert cursors.open("offers new", sealed(cursors), Birth) == PLACE


def test_at_the_end_there_is_no_cursor_and_without_one_no_place(cursors: Cursors) -> None:
    assert cursors.seal("offers", BirthRow(b"[]", None, None).last) is None
    assert cursors.open("offers", None, Birth) is None


def test_a_cursor_fits_into_an_address_and_a_query(cursors: Cursors) -> None:
    cursor = sealed(cursors)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert len(cursor) <= 500


def refused(cursors: Cursors, cursor: str, list_: str = "offers new", place: type[BaseModel] = Birth) -> bool:
    with pytest.raises(Invalid) as error:
        cursors.open(list_, cursor, place)
    (fault,) = error.value.problems
    return (fault.pointer, fault.part, fault.code) == ("/cursor", "query", "cursor")


def test_every_changed_letter_is_noticed(cursors: Cursors) -> None:
    cursor = sealed(cursors)
    for place, letter in enumerate(cursor):
        other = "A" if letter != "A" else "B"
        assert refused(cursors, cursor[:place] + other + cursor[place + 1 :])


def test_a_place_of_one_s_own_making_is_none(cursors: Cursors) -> None:
    raw = urlsafe_b64decode(sealed(cursors) + "==")
    later = raw.replace(b"2026", b"2027")
    assert later != raw
    assert refused(cursors, urlsafe_b64encode(later).decode().rstrip("="))
    assert refused(cursors, urlsafe_b64encode(PLACE.model_dump_json().encode()).decode().rstrip("="))


@pytest.mark.parametrize("nonsense", ["", "x", "====", "null", "ሰላም", "\x00", "' or 1=1 --", "A" * 500, "../../etc"])
def test_nonsense_is_no_cursor(cursors: Cursors, nonsense: str) -> None:
    assert refused(cursors, nonsense)


def test_a_cursor_has_one_spelling(cursors: Cursors) -> None:
    cursor = sealed(cursors)
    for spelling in (cursor + "=", cursor + "==", cursor[:9] + "!" + cursor[9:], cursor + "\n", " " + cursor):
        assert refused(cursors, spelling)


def test_a_cursor_is_of_one_list_with_its_filters(cursors: Cursors) -> None:
    for list_ in ("offers", "offers old", "offers ne", "offers new "):
        assert refused(cursors, sealed(cursors), list_)


def test_a_place_of_another_kind_is_none(cursors: Cursors) -> None:
    assert refused(cursors, sealed(cursors), place=Distance)


def test_the_secret_changes_and_cursors_stay_good_as_tokens_do() -> None:
    before, after = Cursors(auth("first secret")), Cursors(auth("second secret", "first secret"))
    assert after.open("offers new", sealed(before), Birth) == PLACE
    assert refused(before, sealed(after))
    assert refused(Cursors(auth("second secret")), sealed(before))
