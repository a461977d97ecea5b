"""Two moderators, and somebody who offers things."""

from __future__ import annotations

import pytest

from tests.features.moderation.desk import Desk
from tests.support import Api, People, Person


@pytest.fixture
async def desk(api: Api, people: People) -> Desk:
    return Desk(api, await people.admin())


@pytest.fixture
async def other_desk(api: Api, people: People) -> Desk:
    return Desk(api, await people.admin())


@pytest.fixture
async def seller(people: People) -> Person:
    return await people.agent()
