"""A serving process from its first listening to its last connection, and how it goes without failing anybody.

What it consists of is in `app`; who starts it is in `run.py` and, with `--workers`, in `supervisor`.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from k2k.app import Process, build
from k2k.core.settings import Settings
from k2k.infra.metrics import Metrics
from k2k.supervisor import Post, StartError
from k2k.web.headers import LEAVING, RELIEVED
from k2k.web.metrics import exposing
from k2k.web.server import KEEPALIVE_SECONDS, Runner, listening_socket

log = structlog.get_logger()


async def serve_until_asked(settings: Settings, ready: Callable[[], None], post: Post | None = None) -> None:
    """Serve where the settings say or, as one of several workers, at the post given; then stop in order.

    Calls `ready` once requests are answered. Raises StartError, or what `build` raises.
    """
    require_c_extensions()
    process = await build(settings)
    runner = Runner(process.app, settings.server)
    await runner.setup()
    try:
        async with measured(process.metrics, settings, post) as figures:
            asked = stop_asked(post)
            at = post.listening if post else listening(settings.server.host, settings.server.port, "K2K_SERVER__PORT")
            await runner.listen(at)
            ready()
            relieved = await asked
            log.info("stopping", relieved=relieved)
            if relieved or not settings.development:
                await figures.stop_listening()  # of two who listen there the successor is to be asked
                await _leave(runner, process, settings, relieved=relieved)
    finally:
        await runner.cleanup()


async def _leave(runner: Runner, process: Process, settings: Settings, *, relieved: bool) -> None:
    """Go in such an order that no request which reached the process is lost.

    From now on each answer closes its connection. Where a successor listens on the same socket (`relieved`) it takes
    the next connection; elsewhere balancers are given a moment to learn of it. Then live sockets are sent away, one by
    one. A connection that is idle stays open, for a request may be on its way: either one arrives, and its answer
    closes the connection, or it has soon been idle for so long that it would have ended anyway.
    """
    server = settings.server
    if relieved:
        process.app[RELIEVED].set()
    process.app[LEAVING].set()
    if not relieved:
        await asyncio.sleep(server.leave_seconds)
    await runner.stop_listening()
    await asyncio.gather(process.sockets.drain(server.drain_seconds), runner.emptied(server.drain_seconds))


def stop_seconds(settings: Settings) -> float:
    """The longest that stopping takes, with some for closing the connections to the servers."""
    server = settings.server
    leaving = server.leave_seconds + max(server.drain_seconds, KEEPALIVE_SECONDS) + server.shutdown_seconds
    return leaving + settings.jobs.stop_seconds + 5


@asynccontextmanager
async def measured(metrics: Metrics, settings: Settings, post: Post | None = None) -> AsyncIterator[Runner]:
    """Answer /metrics where the settings say, if they do: workers on one port after the other. Raises StartError."""
    runner = Runner(exposing(metrics), settings.server)
    await runner.setup()
    try:
        if port := settings.metrics.port:
            # Workers share their ports, because a successor listens before its predecessor has gone.
            shared, port = post is not None, port + (post.number - 1 if post else 0)
            at = listening(settings.metrics.host, port, "K2K_METRICS__PORT", shared=shared)
            await runner.listen(at)
        yield runner
    finally:
        await runner.cleanup()


def stop_asked(post: Post | None = None) -> asyncio.Future[bool]:
    """Done on SIGINT or SIGTERM (False), or at a post: with True once a successor serves, False if the supervisor ends.

    Call in the main thread: signals are taken from here on.
    """
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[bool] = loop.create_future()

    def ask(*, relieved: bool = False) -> None:
        if not asked.done():
            asked.set_result(relieved)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    if post is not None:

        async def listen() -> None:
            ask(relieved=await post.relieved())

        listening_to_it = loop.create_task(listen())
        asked.add_done_callback(lambda _: listening_to_it.cancel())
    return asked


def listening(host: str, port: int, variable: str, *, shared: bool = False) -> socket.socket:
    """`listening_socket`, its refusal in words. Raises StartError naming the environment variable to change."""
    try:
        return listening_socket(host, port, shared=shared)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise StartError(
            f"{host}:{port} cannot be used ({why}): stop what listens there, or choose another port with {variable}"
        ) from error


def require_c_extensions() -> None:
    """aiohttp's pure-Python parser had most of its request-smuggling faults: refuse to run with it."""
    try:
        import aiohttp._http_parser  # noqa: F401
    except ImportError as error:
        raise StartError("aiohttp runs without its C extensions: install the wheel of this platform") from error
