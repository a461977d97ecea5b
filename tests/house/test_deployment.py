"""What is deployed agrees with the code: the image, the compose file, nginx and the guide."""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from k2k.core.settings import ServerSettings, Settings, load
from k2k.serving import stop_seconds
from tests.support import ROOT

SECRETS = ("K2K_AUTH__SECRET", "POSTGRES_PASSWORD", "DATABASE_PASSWORD", "VALKEY_PASSWORD", "S3_SECRET_KEY")
A_SECRET = "0123456789abcdef" * 4


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest), continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def final_stage() -> dict[str, list[str]]:
    """The instructions of the image itself, by name."""
    found: dict[str, list[str]] = {}
    for name, rest in instructions():
        if name == "FROM":
            found.clear()
        found.setdefault(name, []).append(rest)
    return found


def compose(environ: dict[str, str] | None = None) -> Any:
    """docker-compose.yml with its variables filled in; KeyError for a needed one that `environ` lacks."""
    given = dict.fromkeys(SECRETS, A_SECRET) if environ is None else environ

    def fill(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        return given[name] if kind == "?" else given.get(name, default)

    text = re.sub(r"\$\{(\w+):([-?])([^}]*)\}", fill, (ROOT / "docker-compose.yml").read_text())
    return yaml.safe_load(text)


def test_the_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", final_stage()["USER"][-1])


def test_packages_are_installed_by_hash_from_wheels_and_without_the_embedded_servers() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and "requirements" in rest]
    assert len(installs) == 1
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(shlex.split(installs[0]))
    assert "requirements-embedded" not in (ROOT / "Dockerfile").read_text()
    assert any(name == "RUN" and rest.startswith("npm ci") for name, rest in instructions())


def test_the_image_has_a_production_process_as_its_command_in_exec_form() -> None:
    stage = final_stage()
    assert json.loads(stage["ENTRYPOINT"][0]) + json.loads(stage["CMD"][0]) == ["python", "run.py", "serve"]
    assert stage["STOPSIGNAL"] == ["SIGTERM"]
    assert "K2K_ENVIRONMENT=production" in stage["ENV"][0]
    health = stage["HEALTHCHECK"][0].split("CMD", 1)[1]
    assert "/health/live" in health
    compile(json.loads(health)[-1], "HEALTHCHECK", "exec")


def test_what_the_image_copies_is_there_and_reaches_the_build_and_nothing_else_does() -> None:
    sources = [
        part for name, rest in instructions() if name == "COPY" and "--from" not in rest for part in rest.split()[:-1]
    ]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(sources) == sorted(allowed)
    assert all((ROOT / source).exists() for source in sources)
    assert not any(fnmatch(".env", pattern) for pattern in allowed)


def test_the_settings_of_image_and_compose_are_settings() -> None:
    in_image = dict(pair.split("=", 1) for pair in shlex.split(final_stage()["ENV"][0]))
    for name in ("app1", "app2", "command"):
        settings = load({**in_image, **compose()["services"][name]["environment"]})
        assert settings.environment == "production"
        assert settings.home.as_posix() in final_stage()["VOLUME"]
        assert compose()["services"][name]["volumes"] == [f"home:{settings.home}"]


@pytest.mark.parametrize("secret", SECRETS)
def test_compose_starts_with_no_secret_left_to_a_default(secret: str) -> None:
    given = {name: A_SECRET for name in SECRETS if name != secret}
    with pytest.raises(KeyError, match=secret):
        compose(given)


def test_a_dotenv_for_compose_does_not_keep_the_application_from_starting() -> None:
    """Both read the same .env, and the application refuses a K2K_… that it does not know."""
    names = re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())
    load({name: A_SECRET for name in names if name.startswith("K2K_")})


def test_only_nginx_can_be_reached_and_only_from_this_machine_unless_told_otherwise() -> None:
    published = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}
    assert published == {"nginx": ["127.0.0.1:8080:8080"]}
    assert compose()["networks"]["back"]["internal"] is True


def test_compose_gives_a_process_the_time_it_takes_to_stop() -> None:
    settings = load({})
    needed = stop_seconds(settings)
    for name in ("app1", "app2"):
        assert int(compose()["services"][name]["stop_grace_period"].removesuffix("s")) > needed


def test_systemd_gives_the_workers_the_time_they_take_to_stop_and_knows_how_to_replace_them() -> None:
    unit = (ROOT / "config" / "key2key@.service").read_text()
    (seconds,) = re.findall(r"TimeoutStopSec=(\d+)", unit)
    assert int(seconds) > stop_seconds(load({})) + 5  # the supervisor kills after the first, systemd after the second
    assert "run.py serve --workers" in unit
    assert "ExecReload=/bin/kill -HUP $MAINPID" in unit
    assert "KillMode=mixed" in unit


def test_nginx_knows_the_processes_of_compose_and_where_they_are() -> None:
    services, conf = compose()["services"], nginx()
    upstreams = dict(re.findall(r"server (app\d):(\d+)", conf))
    assert set(upstreams) == {name for name in services if name.startswith("app")}
    assert set(upstreams.values()) == set(final_stage()["EXPOSE"])
    hosts = dict(entry.split(":") for entry in services["nginx"]["extra_hosts"])
    assert hosts == {name: services[name]["networks"]["front"]["ipv4_address"] for name in upstreams}
    (subnet,) = compose()["networks"]["front"]["ipam"]["config"]
    assert all(ip_address(address) in ip_network(subnet["subnet"]) for address in hosts.values())


def test_the_limits_of_nginx_are_those_of_the_application() -> None:
    settings = load({})
    assert f"client_max_body_size {settings.server.body_kib}k;" in nginx()
    (idle,) = re.findall(r"proxy_read_timeout (\d+)s;\n\s+proxy_send_timeout \d+s;\n\s+proxy_buffering off", nginx())
    assert int(idle) > 2 * settings.live.ping_seconds


def test_who_is_believed_about_addresses_is_told_once_there_is_a_setting_for_it() -> None:
    told = compose()["services"]["app1"]["environment"].get("K2K_SERVER__PROXIES")
    if "proxies" in ServerSettings.model_fields:
        assert told == compose()["services"]["nginx"]["networks"]["front"]["ipv4_address"] + "/32"
    else:
        assert told is None


def test_every_setting_that_the_guide_names_exists() -> None:
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    named = re.findall(r"`([a-z]+)\.([a-z0-9_]+)`", (ROOT / "docs" / "deploy.md").read_text())
    assert len(named) > 10
    for section, key in named:
        assert key in getattr(sections.get(section), "model_fields", ()), f"{section}.{key} is no setting"


def nginx() -> str:
    return (ROOT / "config" / "nginx.conf").read_text()
