"""Argon2id, off the event loop, a few at once, with a queue that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from k2k.core.settings import AuthSettings
from k2k.features.accounts.errors import SignInBusy

Result = TypeVar("Result")


class Passwords:
    """Hashes and checks passwords. Raises SignInBusy at once when too many wait."""

    def __init__(self, settings: AuthSettings) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_passes,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
        )
        self._threads = ThreadPoolExecutor(settings.argon2_at_once, thread_name_prefix="argon2")
        self._most = settings.argon2_at_once + settings.argon2_waiting
        self._running = 0
        # Checked in place of an unknown person's hash, so that the answer takes as long.
        self._nobody = self._hasher.hash("nobody's password")

    async def hash(self, password: str) -> str:
        """The hash to keep, with its own salt and parameters (PHC string format)."""
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether `password` is the one behind `hashed`; false, after the same work, where there is none."""
        right = await self._run(lambda: self._verify(password, hashed or self._nobody))
        return right and hashed is not None

    @property
    def waiting(self) -> int:
        """How many are being hashed or wait for it."""
        return self._running

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._running >= self._most:
            raise SignInBusy
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[Result]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # seen, even if the caller has gone
