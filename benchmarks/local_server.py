"""A server of one's own: ``python -m server`` as a subprocess, on free ports."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from imagelink import Client, ImageLinkError

from benchmarks.errors import BenchmarkError
from benchmarks.subprocesses import end, log_tail
from server.app import free_ports
from server.auth import OPERATOR_ID, new_key

START_SECONDS = 180
STOP_SECONDS = 60


class LocalServer:
    """A server that serves at ``target`` once it is started. Stop it in any case."""

    def __init__(
        self,
        bundle: Path,
        folder: Path,
        module: str = "server",
        source: Path | None = None,
        **settings: int | str,
    ) -> None:
        """Prepares a server of a bundle whose data and log are to be in ``folder``.

        ``module`` is what is run, of the checkout ``source`` or of this one; ``settings`` are more of
        its settings by their names.
        """
        self._module = module
        self._port, self._http_port = free_ports(2)
        self.target = f"127.0.0.1:{self._port}"
        self.operator_key = new_key(OPERATOR_ID).text
        self._source = source
        self._bundle = bundle.resolve()
        self._folder = folder
        self._settings = settings
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process of a server that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def postmaster_file(self) -> Path:
        """The file that says which process the embedded PostgreSQL is."""
        return self._folder / "data" / "postgres" / "postmaster.pid"

    def start(self) -> Self:
        """Starts the server and waits until it answers.

        Raises BenchmarkError with the end of its log where it does not.
        """
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, *self._options()],
                cwd=self._folder,
                env=_environment(self.operator_key, self._source),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"The server did not start. Its log:\n{log_tail(self._log)}")
            time.sleep(0.2)
        return self

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Starts the server for the block, as ``start`` does, and stops it in any case."""
        try:
            yield self.start()
        finally:
            self.stop()

    def stop(self) -> None:
        """Stops the server as Ctrl-C does, and by force if that does not help."""
        if self._process is None or self._process.poll() is not None:
            return
        end(self._process, signal.SIGINT, STOP_SECONDS)

    def _options(self) -> list[str]:
        options = {
            "bundle": self._bundle,
            "data-dir": self._folder / "data",
            "grpc-port": self._port,
            "http-port": self._http_port,
            **{name.replace("_", "-"): value for name, value in self._settings.items()},
        }
        return [f"--{name}={value}" for name, value in options.items()]

    def _answers(self) -> bool:
        try:
            with Client(self.target, key=self.operator_key, timeout=2) as client:
                next(client.list_publishers(page_size=1), None)
        except ImageLinkError:
            return False
        return True


def _environment(operator_key: str, source: Path | None) -> dict[str, str]:
    """This process's environment, but for settings of another server."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("IMAGELINK_")
    }
    if source is not None:
        modules = (source.resolve(), source.resolve() / "clients" / "python")
        environment["PYTHONPATH"] = os.pathsep.join(map(str, modules))
    return environment | {"IMAGELINK_OPERATOR_KEY": operator_key}
