"""``python -m benchmarks.noop_server``: the server, but for the recognition."""

import os
from pathlib import Path

from server import app
from server.__main__ import main

ray_environment, ray_token = app.ray_environment, app.ray_token


def _environment(folder: Path) -> dict[str, str]:
    given = ray_environment(folder) | ray_token(folder)
    os.environ.update(given)
    # It brings Ray, which reads its environment when it is imported.
    from benchmarks import noop_scanner

    noop_scanner.install()
    return given


if __name__ == "__main__":
    app.ray_environment = _environment
    app.ray_token = lambda folder: {}
    main()
