"""The settings: read once at start-up from `config/default.toml`, `.env` and the environment, then frozen."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    model_validator,
)

ROOT = Path(__file__).parents[2]
"""The checkout: what `home`, `server.assets` and `.env` are relative to."""

MINIMUM_SECRET_BYTES = 32
WELL_KNOWN_SECRETS = ("change-me", "changeme", "secret", "password", "key2key", "example", "development")


LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SettingsError(Exception):
    """The settings cannot be used. The message names each fault and says what to do."""


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(text: str) -> str:
    """As browsers write it in an Origin header; another spelling would never match."""
    usual = (text.startswith("https:") and text.endswith(":443")) or (text.startswith("http:") and text.endswith(":80"))
    if usual or not re.fullmatch(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d+)?", text):
        raise ValueError("an origin is scheme://host[:port] in lower case, without a path or the scheme's usual port")
    return text


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class ServerSettings(Section):
    host: str
    port: int = Field(ge=0, le=65535)
    origins: Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_comma_separated)]
    proxies: Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(_comma_separated)]
    body_kib: Count
    body_seconds: Seconds
    leave_seconds: Seconds
    drain_seconds: Seconds
    shutdown_seconds: Seconds
    docs: bool
    assets: Path


class DatabaseSettings(Section):
    url: SecretStr
    pool_min: Count
    pool_max: Count
    deadline_seconds: Seconds


class RedisSettings(Section):
    url: SecretStr
    prefix: str = Field(min_length=1)


class AuthSettings(Section):
    secret: SecretStr
    previous_secrets: Annotated[tuple[SecretStr, ...], BeforeValidator(_comma_separated)]
    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    access_minutes: Count
    refresh_days: Count
    argon2_memory_kib: int = Field(ge=8)
    argon2_passes: Count
    argon2_lanes: Count
    argon2_at_once: Count
    argon2_waiting: Count


class LimitsSettings(Section):
    enabled: bool
    user_per_minute: Count
    address_per_minute: Count
    commands_per_user_minute: Count
    commands_per_address_minute: Count


class MetricsSettings(Section):
    host: str
    port: int = Field(ge=0, le=65535)


class LiveSettings(Section):
    ping_seconds: Seconds
    pong_seconds: Seconds
    connect_seconds: Seconds
    expiry_grace_seconds: Seconds
    frame_kib: Count
    queue_messages: Count
    queue_kib: Count
    rpc_at_once: Count
    commands_per_second: Seconds
    commands_at_once: Count
    subscriptions: Count
    sockets_per_user: Count
    connecting_at_once: Count
    strangers_per_address: Count
    compression: bool
    replay_events: Count
    recover_events: Count
    tail_seconds: Seconds
    tail_seconds_without_redis: Seconds
    gap_seconds: Seconds
    linger_seconds: Seconds


class JobSettings(Section):
    in_process: bool
    at_once: int = Field(ge=2)
    poll_seconds: Seconds
    heartbeat_seconds: Seconds
    retry_seconds: Seconds
    retry_seconds_most: Seconds
    stop_seconds: Seconds
    unknown_minutes: Count
    log_days: Count


class MailServer(Section):
    """Where mail.url leads to. `tls`: from the first byte, after STARTTLS, or not at all."""

    host: str
    port: int
    tls: Literal["at-once", "starttls", "none"]
    user: str | None
    password: SecretStr | None


class MailSettings(Section):
    sender: str = Field(pattern=r"^[^\x00-\x1f]*<[^\x00-\x20<>@]+@[^\x00-\x20<>@]+>$")
    url: SecretStr
    timeout_seconds: Seconds

    @property
    def server(self) -> MailServer | None:
        """The SMTP server; None where mail is kept as files. ValueError, without any secret, if the URL is none."""
        url = self.url.get_secret_value()
        return _mail_server(url) if url else None

    @model_validator(mode="after")
    def _url_is_one(self) -> Self:
        _ = self.server
        return self


def _mail_server(url: str) -> MailServer:
    schemes: dict[str, tuple[Literal["at-once", "starttls", "none"], int]] = {
        "smtps": ("at-once", 465),
        "smtp+starttls": ("starttls", 587),
        "smtp": ("none", 25),
    }
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("mail.url is not a URL: write reserved characters of the password as %XX") from None
    if parts.scheme not in schemes or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("mail.url must be smtps://, smtp+starttls:// or smtp:// and then user:password@host:port")
    tls, usual = schemes[parts.scheme]
    if parts.password and tls == "none" and parts.hostname not in LOOPBACK:
        raise ValueError("mail.url would show its password to the network: use smtps:// or smtp+starttls://")
    return MailServer(
        host=parts.hostname,
        port=port or usual,
        tls=tls,
        user=unquote(parts.username) if parts.username else None,
        password=SecretStr(unquote(parts.password)) if parts.password else None,
    )


class ListingSettings(Section):
    review: bool
    active_days: Count
    warn_days: Count
    renewals: int = Field(ge=0)
    posting_seconds: int = Field(ge=0)


class MediaSettings(Section):
    host: str = Field(pattern=r"^(https?://[^\s\"\\\\]+|/[^\s\"\\\\]*)/$")
    directory: str
    bucket: str
    endpoint: str
    region: str
    access_key: SecretStr
    secret_key: SecretStr
    storage_seconds: Seconds
    transfer_seconds: Seconds
    develop_at_once: Count
    develop_waiting: int = Field(ge=0)
    develop_seconds: Seconds
    develop_mib: int = Field(ge=256)
    megapixels: Count
    upload_minutes: Count
    link_seconds: int = Field(ge=1, le=60)
    uploads_per_day: Count
    keep_hours: Count

    @model_validator(mode="after")
    def _bucket_can_be_used(self) -> Self:
        if self.bucket and not (self.access_key.get_secret_value() and self.secret_key.get_secret_value()):
            raise ValueError("media.bucket needs media.access_key and media.secret_key")
        if self.bucket and self.host.startswith("/"):
            raise ValueError("media.host must say where the public reads the bucket: this service does not serve it")
        return self


class LogSettings(Section):
    format: Literal["console", "json"]
    level: Literal["debug", "info", "warning", "error"]


class Settings(Section):
    """All settings of one process. Built by `load`, or by hand in tests."""

    environment: Literal["development", "production"]
    home: Path
    server: ServerSettings
    database: DatabaseSettings
    redis: RedisSettings
    auth: AuthSettings
    limits: LimitsSettings
    live: LiveSettings
    metrics: MetricsSettings
    jobs: JobSettings
    mail: MailSettings
    listings: ListingSettings
    media: MediaSettings
    log: LogSettings

    @property
    def development(self) -> bool:
        return self.environment == "development"

    @property
    def docs(self) -> bool:
        """Whether /docs is served: always in development, elsewhere only where the settings say so."""
        return self.development or self.server.docs

    def secret_faults(self) -> list[str]:
        """Why the signing secret or one that is kept for reading cannot be used (empty: they can)."""
        secret = self.auth.secret.get_secret_value()
        if not secret:
            return ["auth.secret is missing: set K2K_AUTH__SECRET to at least 32 random bytes"]
        faults = _weakness("auth.secret", secret)
        for previous in self.auth.previous_secrets:
            faults += _weakness("auth.previous_secrets", previous.get_secret_value())
        return faults

    def production_faults(self) -> list[str]:
        """What a process outside development must not start without."""
        faults = self.secret_faults()
        for name, url in (("database.url", self.database.url), ("redis.url", self.redis.url)):
            if not url.get_secret_value():
                faults.append(f"{name} is missing: embedded servers are for development only")
        if not self.limits.enabled:
            faults.append("limits.enabled is false: limits can be widened, but not left out")
        return faults


def _weakness(name: str, secret: str) -> list[str]:
    """Why somebody might guess the secret that the setting `name` holds (empty: nobody will)."""
    if any(word in secret.lower() for word in WELL_KNOWN_SECRETS):
        return [f"{name} contains a well-known word: make a random one"]
    if len(secret.encode()) < MINIMUM_SECRET_BYTES or len(set(secret)) < MINIMUM_SECRET_BYTES // 4:
        return [f"{name} is too short or too regular: it needs at least 32 random bytes"]
    return []


def load(environ: Mapping[str, str], *, directory: Path = ROOT) -> Settings:
    """Read the settings for a process started in `directory` with the environment `environ`.

    Raises SettingsError naming every fault at once: unknown keys, values of the wrong shape and, outside
    development, whatever must not be left to a default.
    """
    tree = tomllib.loads((ROOT / "config" / "default.toml").read_text())
    dotenv = {key: value for key, value in dotenv_values(directory / ".env").items() if value is not None}
    faults = _overlay(tree, dotenv) + _overlay(tree, environ)
    settings = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
    if settings is not None:
        server = settings.server.model_copy(update={"assets": directory / settings.server.assets})
        settings = settings.model_copy(update={"home": directory / settings.home, "server": server})
        if not settings.development:
            faults += settings.production_faults()
    if faults or settings is None:
        raise SettingsError("The settings cannot be used:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return settings


def _overlay(tree: dict[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Write K2K_… variables (and the two customary URLs) over `tree`; return what fits nowhere."""
    faults = []
    for section, customary in (("database", "DATABASE_URL"), ("redis", "REDIS_URL")):
        if variables.get(customary):
            tree[section]["url"] = variables[customary]
    for name, value in variables.items():
        if not name.startswith("K2K_"):
            continue
        *sections, key = name.removeprefix("K2K_").lower().split("__")
        node = tree
        for section in sections:
            node = node.get(section, {}) if isinstance(node, dict) else {}
        if key not in node or isinstance(node[key], dict):
            faults.append(f"{name} is not a setting: config/default.toml lists them all")
        else:
            node[key] = value
    return faults
