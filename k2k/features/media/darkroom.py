"""Where pictures are developed: a few at once, each by a program of its own (`develop`), with a queue that ends."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict

from k2k.core.ids import UserId
from k2k.core.settings import MediaSettings
from k2k.features.media.errors import FileRefused, MediaBusy
from k2k.features.media.models import IMAGES
from k2k.features.media.shares import Shares

PATIENCE = 6
"""How many times longer than its processor time a picture may take: beyond it the machine is too busy, not the picture
too large."""
PROGRAM = Path(__file__).with_name("develop.py")

log = structlog.get_logger()

WHY = {
    "no-image": "It is no JPEG, PNG, WebP or GIF image",
    "unreadable": "The image is broken, or ends too early",
    "too-heavy": "The image takes too much memory or time to decode",
}
"""What a refusal means."""


class Developed(BaseModel):
    """What is known of a picture; its three sizes lie in the directory as `<size>.webp`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    media_type: str
    width: int
    height: int
    color: str
    blurhash: str
    phash: int


class Darkroom:
    """Develops pictures. Raises MediaBusy at once when too many wait, or too many of one owner's.

    What one owner may have here is a third, but always the pictures of one request: so nobody fills the queue alone.
    Like the queue itself this sheds the load of one process.
    """

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.develop_at_once, thread_name_prefix="darkroom")
        self._most = settings.develop_at_once + settings.develop_waiting
        self._shares = Shares(max(self._most // 3, min(self._most, IMAGES.most)))
        self._waiting = 0
        self._closed = False
        self._running: set[subprocess.Popen[bytes]] = set()

    def require_room(self, owner: UserId) -> None:
        """Raises early what `develop` would raise late, when files have come all the way: MediaBusy."""
        if self._waiting >= self._most or self._shares.spare(owner) < 1:
            raise MediaBusy

    async def develop(self, file: Path, directory: Path, owner: UserId, place: int = 0) -> Developed:
        """Look at the file and write its sizes into the directory, which it makes. Raises FileRefused for `place`.

        Pictures are developed in the order in which they were asked for.
        Where whoever asked goes away a picture that still waits is not developed any more, and one that is being
        developed is waited for, because its files are in use.
        """
        self.require_room(owner)
        work = self._threads.submit(self._develop, file, directory)
        self._shares.take(owner)
        self._waiting += 1
        future = asyncio.wrap_future(work)
        future.add_done_callback(partial(self._done, owner))
        try:
            told = await asyncio.shield(future)
        except asyncio.CancelledError:
            if not work.cancel():
                await asyncio.wait([future])
            raise
        if isinstance(told, Developed):
            return told
        megapixels = f"The image has more than {self._settings.megapixels} megapixels"
        raise FileRefused.because(told, WHY.get(told, megapixels), place)

    @property
    def waiting(self) -> int:
        """How many are being developed or wait for it."""
        return self._waiting

    def close(self) -> None:
        """Take no more, and end what runs."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            process.kill()

    def _done(self, owner: UserId, future: asyncio.Future[Developed | str]) -> None:
        self._waiting -= 1
        self._shares.give_back(owner)
        if not future.cancelled():
            future.exception()  # seen, even if the caller has gone

    def _develop(self, file: Path, directory: Path) -> Developed | str:
        """What the program saw, or the word for its refusal. In a thread: starting a program takes a moment."""
        settings = self._settings
        directory.mkdir(exist_ok=True)
        limits = (settings.develop_mib, math.ceil(settings.develop_seconds), settings.megapixels)
        with subprocess.Popen(  # noqa: S603 -- our own program
            [sys.executable, "-I", str(PROGRAM), str(file), str(directory), *map(str, limits)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
        ) as process:
            self._running.add(process)
            if self._closed:  # meanwhile
                process.kill()
            try:
                said, _ = process.communicate(timeout=settings.develop_seconds * PATIENCE)
            except subprocess.TimeoutExpired as error:
                log.warning("a picture was given up: the machine is too busy", seconds=error.timeout)
                raise MediaBusy from error
            finally:
                process.kill()
                self._running.discard(process)
        return _told(said, process.returncode)


def _told(said: bytes, code: int) -> Developed | str:
    if code != 0:  # killed for what it took, or it could not even say why
        log.warning("a picture ended the program that develops", code=code)
        return "too-heavy"
    if b'"refused"' in said:
        return _Refusal.model_validate_json(said).refused
    return Developed.model_validate_json(said)


class _Refusal(BaseModel):
    refused: str
    error: str | None = None
