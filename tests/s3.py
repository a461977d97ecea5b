"""An S3 server that checks signatures, on a free port of this machine, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from k2k.core.settings import MediaSettings, Settings
from k2k.infra.storage.s3 import Bucket
from tests.support import eventually, free_port

BUCKET = "media"


@asynccontextmanager
async def s3(settings: Settings, directory: Path) -> AsyncIterator[Settings]:
    """The settings with an empty bucket, until the block ends."""
    port, key, secret = free_port(), "k2ktest" + secrets.token_hex(4), secrets.token_urlsafe(24)
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nanio", "serve", "--host", "127.0.0.1", "--port", str(port)),
        *("--data-dir", str(directory), "--region", "us-east-1"),
        env={"PATH": os.environ["PATH"], "NANIO_ACCESS_KEY": key, "NANIO_SECRET_KEY": secret},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def listens() -> bool:
        assert server.returncode is None, "the S3 server ended instead of listening"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens, seconds=30)
        endpoint = f"http://127.0.0.1:{port}"
        told = {
            "bucket": BUCKET,
            "endpoint": endpoint,
            "host": f"{endpoint}/{BUCKET}/",
            "access_key": SecretStr(key),
            "secret_key": SecretStr(secret),
        }
        media = settings.media.model_copy(update=told)
        await _make_bucket(media)
        yield settings.model_copy(update={"media": media})
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def _make_bucket(media: MediaSettings) -> None:
    storage = await Bucket.open(media)
    await storage._client.create_bucket(Bucket=media.bucket)
    await storage.close()
