"""Settings: every key is known, every fault is told at once, and production refuses what must not be left to chance."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from k2k.core.settings import ROOT, SettingsError, load

PRODUCTION = {
    "K2K_ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://k2k@db.internal/k2k",
    "REDIS_URL": "redis://cache.internal/0",
}


def test_the_environment_wins_over_dotenv_and_dotenv_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("K2K_SERVER__PORT=9001\nK2K_SERVER__HOST=0.0.0.0\n")
    settings = load({"K2K_SERVER__PORT": "9002"}, directory=tmp_path)
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 9002)  # noqa: S104
    assert settings.auth.access_minutes == 30


def test_lists_are_comma_separated() -> None:
    settings = load({"K2K_SERVER__ORIGINS": "https://key2key.example, https://admin.key2key.example"})
    assert settings.server.origins == ("https://key2key.example", "https://admin.key2key.example")


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        load({"K2K_SERVER__PROT": "1", "K2K_NOTHING": "1", "K2K_SERVER": "x", "K2K_SERVER__PORT": "many"})
    for fault in ("K2K_SERVER__PROT is not a setting", "K2K_NOTHING", "K2K_SERVER is not", "server.port"):
        assert fault in str(refused.value)


def test_an_unknown_key_in_dotenv_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("K2K_AUTH__SERCET=x\n")
    with pytest.raises(SettingsError, match="K2K_AUTH__SERCET"):
        load({}, directory=tmp_path)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load({}).server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "missing"),
        ("short", "too short"),
        ("change-me-change-me-change-me-change-me", "well-known"),
        ("a" * 64, "too regular"),
    ],
)
def test_production_refuses_a_secret_that_is_none(secret: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        load({**PRODUCTION, "K2K_AUTH__SECRET": secret})


def test_a_secret_that_is_only_kept_for_reading_must_be_as_good() -> None:
    first, second = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
    variables = {**PRODUCTION, "K2K_AUTH__SECRET": secrets.token_urlsafe(48)}
    kept = load({**variables, "K2K_AUTH__PREVIOUS_SECRETS": f"{first}, {second}"}).auth.previous_secrets
    assert [secret.get_secret_value() for secret in kept] == [first, second]
    with pytest.raises(SettingsError, match=r"auth\.previous_secrets is too short"):
        load({**variables, "K2K_AUTH__PREVIOUS_SECRETS": f"{first},short"})


@pytest.mark.parametrize("secret", ["", "Xk2-w", "change-me-change-me-change-me-change-me"])
def test_a_real_process_without_a_real_secret_does_not_start(secret: str) -> None:
    """It says why and ends, before it so much as looks for its servers (there are none at these addresses)."""
    given = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "run.py", "serve"],
        cwd=ROOT,
        env={**given, **PRODUCTION, "K2K_AUTH__SECRET": secret},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Key2Key cannot start.\nThe settings cannot be used:\n  - auth.secret ")
    assert "Traceback" not in ended.stderr
    assert not secret or secret not in ended.stderr


def test_production_starts_with_a_real_secret_and_names_its_servers() -> None:
    settings = load({**PRODUCTION, "K2K_AUTH__SECRET": secrets.token_urlsafe(48)})
    assert not settings.development
    with pytest.raises(SettingsError, match=r"database\.url is missing"):
        load({"K2K_ENVIRONMENT": "production", "K2K_AUTH__SECRET": secrets.token_urlsafe(48)})


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = load(
        {
            **PRODUCTION,
            "DATABASE_URL": "postgresql://k2k:hunter2@db/k2k",
            "K2K_AUTH__SECRET": "s" * 3 + secrets.token_urlsafe(48),
        }
    )
    assert "hunter2" not in repr(settings)
    assert settings.auth.secret.get_secret_value() not in repr(settings)


def test_production_does_not_start_without_limits() -> None:
    variables = {**PRODUCTION, "K2K_AUTH__SECRET": secrets.token_urlsafe(48)}
    with pytest.raises(SettingsError, match=r"limits\.enabled is false"):
        load({**variables, "K2K_LIMITS__ENABLED": "false"})
    assert not load({"K2K_LIMITS__ENABLED": "false"}).limits.enabled, "for measurements it may"


@pytest.mark.parametrize("network", ["nginx", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "fd00::/129", "*", "10.0.0.0-9"])
def test_a_proxy_is_named_by_its_network(network: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"K2K_SERVER__PROXIES": f"172.16.0.0/12,{network}"})
    assert str(refused.value).count("\n") == 1
    assert "server.proxies.1: value is not a valid IPv4 or IPv6 network" in str(refused.value)


@pytest.mark.parametrize(
    "origin", ["https://key2key.example", "http://localhost:5173", "http://[::1]:80443", "capacitor://localhost"]
)
def test_an_origin_is_written_as_browsers_send_it(origin: str) -> None:
    assert load({"K2K_SERVER__ORIGINS": origin}).server.origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "key2key.example",
        "https://",
        "https://*.key2key.example",
        "https://key2key.example/",
        "https://key2key.example/app",
        "https://Key2Key.example",
        "https://key2key.example:443",
        "http://key2key.example:80",
        "https://user@key2key.example",
        "//key2key.example",
    ],
)
def test_an_origin_that_no_browser_would_send_is_refused(origin: str) -> None:
    """It would never match, or it would be a wish to let in everybody."""
    with pytest.raises(SettingsError, match=r"server\.origins\.0: Value error, an origin is scheme://host\[:port\]"):
        load({"K2K_SERVER__ORIGINS": origin})
