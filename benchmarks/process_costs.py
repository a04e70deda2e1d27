"""What the processes of a local server cost."""

from collections import defaultdict

import psutil

# The processes by a part of their command line.
KINDS = {
    "Scanner": "scanner",
    "GalleryShard": "shard",
    "haproxy": "HAProxy",
    "ServeController": "Serve controller",
}
OTHER = "other Ray processes"


class ProcessCosts:
    """The processor time that the processes below ``pid`` spend from now on, and their memory."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._before = self._spent()

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds of processor time since the beginning, by the kind of process."""
        spent: defaultdict[str, float] = defaultdict(float)
        for process, seconds in self._spent().items():
            spent[_kind(process)] += 1000 * (seconds - self._before.get(process, 0.0))
        return dict(spent)

    def memory(self) -> dict[str, float]:
        """Megabytes that are the processes' own, by the kind of process."""
        used: defaultdict[str, float] = defaultdict(float)
        for process in self._processes():
            used[_kind(process)] += process.memory_full_info().uss / 1e6
        return dict(used)

    def _spent(self) -> dict[psutil.Process, float]:
        times = {process: process.cpu_times() for process in self._processes()}
        return {process: each.user + each.system for process, each in times.items()}

    def _processes(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]


def _kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    return next((kind for part, kind in KINDS.items() if part in command), OTHER)
