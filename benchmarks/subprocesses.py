"""Servers as subprocesses, each in a session of its own: how they end, and what they said at last."""

import os
import signal
import subprocess
from pathlib import Path

LOG_LINES = 20


def end(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    """Ends a process by a signal and, where that does not help for so long, its whole session."""
    process.send_signal(number)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def log_tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
