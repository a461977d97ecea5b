"""The two kinds of storage that uploads may lie in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from k2k.core.settings import Settings
from k2k.infra import migrations
from tests.conftest import TEMPLATE
from tests.s3 import s3
from tests.support import Node


@pytest.fixture(scope="session")
async def s3_node(
    settings: Settings, servers: tuple[str, str], worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    """A node with a bucket, and with a database of its own: the jobs of one storage are not for another's workers."""
    url = await migrations.ensure_database(servers[0], f"k2k_s3_{worker}", template=TEMPLATE)
    database = settings.database.model_copy(update={"url": SecretStr(url)})
    redis = settings.redis.model_copy(update={"prefix": f"k2k-s3-{worker}"})
    own = settings.model_copy(update={"database": database, "redis": redis, "home": tmp_path_factory.mktemp("s3-home")})
    async with s3(own, tmp_path_factory.mktemp("s3")) as found:
        node = await Node.start(found)
        yield node
        await node.stop()


@pytest.fixture(params=["directory", "bucket"])
def site(request: pytest.FixtureRequest, node: Node) -> Node:
    """A node whose media lie in a directory, and one with a bucket."""
    found: Node = request.getfixturevalue("s3_node") if request.param == "bucket" else node
    return found
