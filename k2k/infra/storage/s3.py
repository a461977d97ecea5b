"""A bucket of whatever speaks S3 (aiobotocore, signature version 4). What it answers wrong or late is Unavailable."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as ConnectionFault
from botocore.exceptions import BotoCoreError, ClientError

from k2k.core.errors import Unavailable
from k2k.core.settings import MediaSettings
from k2k.infra.storage.port import NAME, PUBLIC, NotStored, SignedPut, Stored, checked

PIECE = 256 * 1024
TOGETHER = 1000
"""Names that S3 deletes or lists at once."""
FOR_EVER = "public, max-age=31536000, immutable"
PRIVATE = "private, no-store"

log = structlog.get_logger()


class Bucket:
    """A storage in one bucket, which exists and whose names below `PUBLIC` the operator lets everybody read."""

    def __init__(self, settings: MediaSettings, client: Any, closing: Any) -> None:
        self._bucket = settings.bucket
        self._soon, self._transfer = settings.storage_seconds, settings.transfer_seconds
        self._client = client
        self._closing = closing

    @classmethod
    async def open(cls, settings: MediaSettings) -> Self:
        """A client with connections of its own; nothing is asked yet."""
        config = AioConfig(
            signature_version="s3v4",
            connect_timeout=settings.storage_seconds,
            read_timeout=settings.storage_seconds,
            retries={"total_max_attempts": 2, "mode": "standard"},
            max_pool_connections=20,
            proxies={},  # none out of the environment
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # The hash of a body is signed as a header: nobody waits for the loop to compute it.
            s3={"addressing_style": "path", "payload_signing_enabled": False},
        )
        opening = get_session().create_client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.endpoint or None,
            aws_access_key_id=settings.access_key.get_secret_value(),
            aws_secret_access_key=settings.secret_key.get_secret_value(),
            config=config,
        )
        return cls(settings, await opening.__aenter__(), opening)

    async def put(self, name: str, file: Path, media_type: str) -> None:
        kept = FOR_EVER if name.startswith(PUBLIC) else PRIVATE
        checksum = base64.b64encode(await asyncio.to_thread(_sha256, file)).decode()
        async with self._asking(self._transfer):
            with await asyncio.to_thread(file.open, "rb") as body:
                await self._client.put_object(
                    Bucket=self._bucket,
                    Key=checked(name),
                    Body=body,
                    ContentType=media_type,
                    CacheControl=kept,
                    ChecksumSHA256=checksum,
                )

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        async with self._asking(self._transfer):
            answer = await self._client.get_object(Bucket=self._bucket, Key=checked(name))
            async with answer["Body"] as body:
                async for piece in body.iter_chunks(PIECE):
                    yield piece

    async def find(self, name: str) -> Stored | None:
        try:
            async with self._asking(self._soon):
                head = await self._client.head_object(Bucket=self._bucket, Key=checked(name))
        except NotStored:
            return None
        return Stored(name, head["ContentLength"], head["LastModified"])

    async def delete(self, names: Iterable[str]) -> None:
        every = [checked(name) for name in names]
        for begin in range(0, len(every), TOGETHER):
            some = every[begin : begin + TOGETHER]
            async with self._asking(self._soon):
                wish = {"Objects": [{"Key": name} for name in some], "Quiet": True}
                answer = await self._client.delete_objects(Bucket=self._bucket, Delete=wish)
            if faults := answer.get("Errors"):
                log.warning("files were not deleted", count=len(faults), code=faults[0].get("Code"))
                raise Unavailable

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Stored]:
        wish: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": TOGETHER, "StartAfter": after}
        more = True
        while more:
            async with self._asking(self._soon):
                page = await self._client.list_objects_v2(**wish)
            for found in page.get("Contents", ()):
                if not NAME.fullmatch(found["Key"]):
                    continue
                yield Stored(found["Key"], found["Size"], found["LastModified"])
            if more := page["IsTruncated"]:
                wish["ContinuationToken"] = page["NextContinuationToken"]

    async def signed_put(self, name: str, media_type: str, size: int, sha256: bytes, seconds: int) -> SignedPut:
        # Length, type and hash are signed headers: with others the signature does not hold.
        checksum = base64.b64encode(sha256).decode()
        wish = {"ContentType": media_type, "ContentLength": size, "ChecksumSHA256": checksum}
        url = await self._signed("put_object", name, wish, seconds)
        return SignedPut(url, {"Content-Type": media_type, "x-amz-checksum-sha256": checksum})

    async def signed_get(self, name: str, media_type: str, disposition: str, seconds: int) -> str:
        wish = {
            "ResponseContentType": media_type,
            "ResponseContentDisposition": disposition,
            "ResponseCacheControl": PRIVATE,
        }
        return await self._signed("get_object", name, wish, seconds)

    async def close(self) -> None:
        await self._closing.__aexit__(None, None, None)

    async def _signed(self, method: str, name: str, wish: dict[str, Any], seconds: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": checked(name), **wish}
        url: str = await self._client.generate_presigned_url(method, Params=parameters, ExpiresIn=seconds)
        return url

    @asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncIterator[None]:
        """What the server or the way to it does wrong, in our words. Raises NotStored and Unavailable."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in ("NoSuchKey", "404", "NotFound"):
                raise NotStored from None
            log.warning("the bucket of the media refuses", code=code)
            raise Unavailable from error
        except (BotoCoreError, ConnectionFault, OSError) as error:  # TimeoutError is one
            log.warning("the bucket of the media is away", error=type(error).__name__)
            raise Unavailable from error


def _sha256(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()
