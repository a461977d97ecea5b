"""Structured logging, set up once per process; every other room just asks `structlog` for a logger."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from k2k.core.settings import LogSettings

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
SECRET_WORDS = ("password", "token", "secret", "authorization", "cookie")


def name_request(request_id: str) -> None:
    """Have every line of this task, and of those it starts, carry the id."""
    _request_id.set(request_id)


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    request_id = _request_id.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Last line of defence: whatever is named like a secret is not written, wherever it came from."""
    for key in event:
        if any(word in key.lower() for word in SECRET_WORDS):
            event[key] = "…"
    return event


def _leave_out_the_request(record: logging.LogRecord) -> bool:
    """Say only why a request could not be read, and not as an error of ours: anybody can send one.

    aiohttp shows the bytes that it cannot parse, and a token may stand in them.
    """
    error = record.exc_info[1] if record.exc_info else None
    kind = type(error)
    broken = kind.__module__ == "aiohttp.http_exceptions" or kind.__name__ == "RequestPayloadError"
    if broken or isinstance(error, ConnectionError):
        record.msg, record.args = "request not read: %s", (kind.__name__,)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def set_up(settings: LogSettings) -> None:
    """Send our log lines and those of libraries to stderr in the chosen form."""
    level = getattr(logging, settings.level.upper())
    shared: list[Processor] = [
        _add_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    renderer = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.format == "json"
        # Plain tracebacks: prettier ones print local variables, and so passwords.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    finish: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.format == "json":
        finish.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*finish, renderer]))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # These tell every step; ours tell what matters.
    for name in ("yoyo", "aiohttp.access", "pgqueuer"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").filters = [_leave_out_the_request]
