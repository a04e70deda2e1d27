"""Checks a bundle that was sent, in a process of its own.

The check runs the network by all means by which it may serve. A process that scans would lend it
memory and PyTorch's import, and would go down with a graph that crashes.
"""

import os
import subprocess
import sys
from pathlib import Path

from indexing.bundle import load_bundle
from indexing.errors import BundleInvalid
from server.background import NICENESS

# It takes some seconds of a core, and of a busy one ten times as long.
TIMEOUT_SECONDS = 300.0


def check_bundle(folder: Path) -> None:
    """Raises BundleInvalid where the bundle in a folder is damaged, or its network not what it says."""
    command = [sys.executable, "-m", __name__, str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BundleInvalid(path=folder, problem="Its check takes too long.") from None
    if done.returncode:
        problem = done.stdout or f"Its check ended with status {done.returncode}."
        raise BundleInvalid(path=folder, problem=problem)


def _main() -> None:
    os.nice(NICENESS)
    try:
        load_bundle(Path(sys.argv[1])).verify()
    except BundleInvalid as error:
        print(error.details["problem"], end="")
        sys.exit(1)


if __name__ == "__main__":
    _main()
