"""What processes cost, on the real machine."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.harness.machine import Cores, Watch, cpu_seconds, pin

WORK = "import time\nwhile time.process_time() < 0.3: pass"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {WORK!r}], check=True)
print("ready", flush=True)
sys.stdin.read()
"""


def parent() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_an_ended_child_used_is_not_forgotten() -> None:
    with parent() as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert cpu_seconds([running.pid]) >= 0.28  # the kernel counts in hundredths
        running.communicate()


def test_our_own_children_are_not_others() -> None:
    watch = Watch()
    subprocess.run([sys.executable, "-c", WORK], check=True, timeout=30)
    ours = cpu_seconds([os.getpid()]) - watch._ours
    assert ours >= 0.28  # the kernel counts in hundredths
    assert 0.0 <= watch.foreign() <= 1.0


def test_pinned_processes_stay_on_their_cores() -> None:
    cores = Cores.shared_out()
    with parent() as running:
        assert running.stdout is not None
        running.stdout.readline()
        pin(running.pid, cores.server)
        if cores.server:
            assert os.sched_getaffinity(running.pid) == set(cores.server)
        running.communicate()


def test_the_server_and_the_generator_never_share_a_core() -> None:
    cores = Cores.shared_out()
    assert not set(cores.server) & set(cores.generator)
