"""A whole server as a process of its own, and what tests ask of it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from imagelink import Client, ImageLinkError, Role

from server.app import free_ports

START_SECONDS = 150
STOP_SECONDS = 40
HOST = "127.0.0.1"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Tenant:
    """A publisher with a key of each role, and a client with the one to publish."""

    id: str
    client: Client
    publish_key: str
    scan_key: str

    @property
    def name(self) -> str:
        return f"publishers/{self.id}"


@dataclass
class RunningServer:
    """``python -m server`` on a data directory; it can be killed and started again."""

    data: Path
    grpc_port: int = field(default_factory=lambda: free_port())
    http_port: int = field(default_factory=lambda: free_port())
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    clients: list[Client] = field(default_factory=list)
    started: list[psutil.Process] = field(default_factory=list)
    left: list[psutil.Process] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"{HOST}:{self.grpc_port}"

    @property
    def log(self) -> str:
        return (self.data / "server.log").read_text(errors="replace")

    @property
    def log_files(self) -> list[Path]:
        """All files that its processes write logs into, Ray's and HAProxy's among them."""
        lines = [" ".join(process.cmdline()) for process in self.processes()]
        sessions = {found for line in lines for found in re.findall(r"--session-dir=(\S+)", line)}
        assert len(sessions) == 1
        logs = [file for file in Path(*sessions, "logs").rglob("*") if file.is_file()]
        return [self.data / "server.log", *logs]

    @property
    def operator_key(self) -> str:
        return (self.data / "operator.key").read_text().strip()

    def start(self) -> None:
        # Clients that lost a server wait before they try again, and so do new ones like them.
        self._close_clients()
        self.data.mkdir(parents=True, exist_ok=True)
        settings = {
            "IMAGELINK_DATA_DIR": str(self.data),
            "IMAGELINK_GRPC_PORT": str(self.grpc_port),
            "IMAGELINK_HTTP_PORT": str(self.http_port),
            # Tests run on slow machines.
            "IMAGELINK_LONGEST_WAIT_MS": "4000",
        }
        with (self.data / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server"],
                env=os.environ | settings | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_it_serves()
        self.remember_processes()

    def stop(self) -> None:
        """Stops it as Ctrl-C does: it must end well, and with all of its processes."""
        process = self._running()
        self._close_clients()
        self.remember_processes()
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.abandon()
            pytest.fail(f"The server did not stop in {STOP_SECONDS} s:\n{self.log}")
        assert status == 0, self.log
        assert "Traceback" not in self.log
        assert_ended(self.started, 10)

    def kill(self) -> None:
        """Kills the main process and the replicas, so that calls break off; notes the rest as left."""
        process = self._running()
        process.kill()
        for started in self.started:
            with suppress(psutil.Error):
                if "ServeReplica" in " ".join(started.cmdline()):
                    started.kill()
        process.wait()
        self.left += self.started
        self.started.clear()

    def abandon(self) -> None:
        """Ends whatever still runs, without a word."""
        for process in [*self.started, *self.processes()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def remember_processes(self) -> None:
        """Notes what runs now: it must have ended after a stop."""
        self.started += self.processes()

    def processes(self) -> list[psutil.Process]:
        """All that the server started: its descendants, and what works on its data."""
        found: dict[int, psutil.Process] = {}
        if self.process is not None and self.process.poll() is None:
            main = psutil.Process(self.process.pid)
            found |= {child.pid: child for child in main.children(recursive=True)}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.data) in " ".join(process.cmdline()):
                    found[process.pid] = process
                    found |= {child.pid: child for child in process.children(recursive=True)}
        return list(found.values())

    def client(self, key: str) -> Client:
        made = Client(self.target, key=key, timeout=60)
        self.clients.append(made)
        return made

    @property
    def operator(self) -> Client:
        return self.client(self.operator_key)

    def tenant(self) -> Tenant:
        """A new publisher."""
        publisher = f"test-{uuid.uuid4().hex[:12]}"
        operator = self.operator
        operator.create_publisher(publisher)
        _, publish_key = operator.create_api_key(publisher, role=Role.PUBLISH)
        _, scan_key = operator.create_api_key(publisher, role=Role.SCAN)
        return Tenant(publisher, self.client(publish_key), publish_key, scan_key)

    def _close_clients(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        assert self.process.poll() is None, f"The server ended by itself:\n{self.log}"
        return self.process

    def _wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self._running()
            with grpc.insecure_channel(self.target) as channel, suppress(grpc.RpcError):
                health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=2
                )
                return
            time.sleep(0.3)
        self.abandon()
        pytest.fail(f"The server did not start in {START_SECONDS} s:\n{self.log}")


@contextmanager
def serving(**options: Any) -> Iterator[RunningServer]:
    """A server on a data directory of its own, which must stop well at the end."""
    # Not below pytest's own directory: its permissions shut out the database, which runs as
    # another user where the tests run as root.
    directory = Path(tempfile.mkdtemp(prefix="imagelink-e2e-"))
    running = RunningServer(directory / "data", **options)
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.abandon()
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """One that the system gives to nobody, so that a server gets it back when it starts again."""
    (port,) = free_ports(1)
    return port


def assert_ended(processes: list[psutil.Process], seconds: float) -> None:
    """Asserts that the processes are gone, or go within so many seconds."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if _alive(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left = [process for process in left if _alive(process)]
    assert not left


def _alive(process: psutil.Process) -> bool:
    # One that ended, but that nobody has waited for, still has an entry.
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def bearer(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),)


@contextmanager
def refused(code: grpc.StatusCode, reason: str, field: str = "") -> Iterator[None]:
    """Asserts that a call is refused so, in the form of AIP-193 and in words for people."""
    with pytest.raises((grpc.RpcError, ImageLinkError)) as caught:
        yield
    error = caught.value
    if isinstance(error, ImageLinkError):
        error = error.__cause__
    assert error.code() is code, error
    assert "Traceback" not in error.details()
    assert ": " in error.details(), "It says what is wrong, but not what to do."
    status = rpc_status.from_call(error)
    assert status is not None, f"{error} has no details."
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert any(detail.Unpack(info) for detail in status.details)
    assert (info.reason, info.domain) == (reason, "imagelink")
    fields = [
        violation.field
        for detail in status.details
        if detail.Unpack(bad_request)
        for violation in bad_request.field_violations
    ]
    assert fields == ([field] if field else [])
