"""The processes of a server, how each is found, and what killing one leads to."""

import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.kill_traffic import Publisher
from benchmarks.local_server import LocalServer

PATIENCE_SECONDS = 60.0
NEVER = float("inf")


class Victim(StrEnum):
    """What is killed."""

    SHARD = "shard"
    SCANNER = "scanner"
    POSTGRES = "postgres"
    CONTROLLER = "controller"
    HAPROXY = "haproxy"
    WORKER = "rollout worker"


_TITLES = {
    Victim.SHARD: "ServeReplica:shard-0",
    Victim.SCANNER: "ServeReplica:imagelink",
    Victim.CONTROLLER: "ServeController",
    Victim.WORKER: "ServeReplica:rollout",
}


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a kill until a scan of each publisher was answered, and until the process was back.

    Infinite where that took longer than anybody waited.
    """

    scans: float
    process: float


def kill(server: LocalServer, victim: Victim, publishers: Sequence[Publisher]) -> Recovery:
    """Kills a process of a server that is busy. Raises BenchmarkError where there is none."""
    process = found(server, victim)
    process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    resumed: dict[str, float] = {}
    back = NEVER
    while time.monotonic() < killed + PATIENCE_SECONDS:
        for publisher in publishers:
            answered = publisher.last_answered
            # Not one that was on its way, and might still have been answered by the old process.
            if answered.begun > killed:
                resumed.setdefault(publisher.name, answered.ended - killed)
        if back == NEVER and _running(server, victim) not in (None, process):
            back = time.monotonic() - killed
        if len(resumed) == len(publishers) and back != NEVER:
            return Recovery(max(resumed.values()), back)
        time.sleep(0.02)
    scans = max(resumed.values()) if len(resumed) == len(publishers) else NEVER
    return Recovery(scans, back)


def found(server: LocalServer, victim: Victim) -> psutil.Process:
    """A process of the server, which may be on its way. Raises BenchmarkError where none comes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        process = _running(server, victim)
        if process is not None:
            return process
        time.sleep(0.1)
    raise BenchmarkError(f"The server has no {victim} any more.")


def _running(server: LocalServer, victim: Victim) -> psutil.Process | None:
    if victim is Victim.POSTGRES:
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            return psutil.Process(int(server.postmaster_file.read_text().splitlines()[0]))
        return None
    for process in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and _is(process.cmdline(), victim):
                return process
    return None


def _is(words: list[str], victim: Victim) -> bool:
    if victim is Victim.HAPROXY:
        return bool(words) and words[0].endswith("/haproxy")
    return _TITLES[victim] in " ".join(words)
