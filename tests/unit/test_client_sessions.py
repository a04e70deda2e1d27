"""Camera sessions of the client, against a small real gRPC server."""

import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import imagelink
import pytest
from imagelink import (
    AsyncClient,
    Client,
    FrameFailure,
    SessionEnd,
    SessionEndReason,
    Sighting,
)
from imagelink.v1 import recognition_pb2, recognition_pb2_grpc

from tests.unit.fake_servers import served
from tests.unit.test_client import CODES, KEY, Server, info, refuse, run, written
from tests.unit.test_client_gallery import status

Response = recognition_pb2.ScanStreamResponse


class SessionServer(Server):
    """Sees in each frame the reference of its name; ends where the frame says so."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0
        self.ended = threading.Event()

    def ScanStream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        self.receive("ScanStream", None, context)
        context.add_callback(self.ended.set)
        self.config = next(requests).config
        for number, request in enumerate(requests):
            self.received += 1
            if request.image == b"over":
                yield Response(frame_number=number, end={"reason": 2})  # type: ignore[arg-type]
                return
            if request.image == b"break":
                refuse(context, CODES.UNAVAILABLE, "The server stops.")
            yield _answer(number, request.image)
        yield Response(frame_number=self.received, end={"reason": 1})  # type: ignore[arg-type]

    def Scan(self, request: Any, context: Any) -> Any:
        self.receive("Scan", request, context)
        return recognition_pb2.ScanResponse()


def _answer(number: int, image: bytes) -> Response:
    if image == b"bad":
        error = status(CODES.INVALID_ARGUMENT, "It is no image.", info("IMAGE_INVALID"))
        return Response(frame_number=number, dropped_frame_count=3, error=error)
    name = f"publishers/acme/references/{image.decode()}"
    match = recognition_pb2.Match(reference=name, link="https://x.example/", probability=0.9)
    sighting = recognition_pb2.Sighting(
        match=match, evidence_frame_count=4, model_version="v1", gallery_version=7, scan_id="s"
    )
    return Response(frame_number=number, dropped_frame_count=2, sighting=sighting)


@pytest.fixture
def server() -> Iterator[SessionServer]:
    register = recognition_pb2_grpc.add_RecognitionServicer_to_server
    with served(SessionServer(), register) as servicer:
        yield servicer


@pytest.fixture
def client(server: SessionServer) -> Iterator[Client]:
    with Client(server.target, key=KEY) as client:
        yield client


def check_events(events: list[Any]) -> None:
    seen, failure, end = events
    assert isinstance(seen, Sighting)
    assert (seen.match.reference_id, seen.match.probability) == ("poster", 0.9)
    assert (seen.frame_number, seen.dropped_frames, seen.evidence_frames) == (0, 2, 4)
    assert (seen.model_version, seen.gallery_version, seen.scan_id) == ("v1", 7, "s")
    assert isinstance(failure, FrameFailure)
    assert isinstance(failure.error, imagelink.InvalidArgument)
    assert failure.error.reason == "IMAGE_INVALID"
    assert (failure.frame_number, failure.dropped_frames) == (1, 3)
    assert end == SessionEnd(SessionEndReason.CLIENT_CLOSED, 2, 0)


def test_frames_go_in_and_events_come_out(
    server: SessionServer, client: Client, tmp_path: Path
) -> None:
    file = written(tmp_path / "frame.jpg", b"poster")
    options: dict[str, Any] = {"min_gallery_version": 5, "max_duration": 9.5, "reappear_after": 1}
    check_events(list(client.scan_stream([file, b"bad"], keep_late_frames=True, **options)))
    assert server.config.min_gallery_version == 5
    assert server.config.max_duration.ToTimedelta().total_seconds() == 9.5
    assert server.config.reappear_after.ToTimedelta().total_seconds() == 1
    assert server.config.keep_late_frames


def test_what_is_not_given_is_left_to_the_server(server: SessionServer, client: Client) -> None:
    list(client.scan_stream([]))
    assert server.config == recognition_pb2.ScanStreamConfig()


async def test_async_sessions_are_those_of_the_sync_client(server: SessionServer) -> None:
    async def camera() -> AsyncIterator[bytes]:
        yield b"poster"
        yield b"bad"

    async with AsyncClient(server.target, key=KEY) as client:
        check_events([event async for event in client.scan_stream([b"poster", b"bad"])])
        server.received = 0
        check_events([event async for event in client.scan_stream(camera())])
        with pytest.raises(imagelink.Unavailable, match="The server stops"):
            [event async for event in client.scan_stream([b"break"])]
    async with AsyncClient(server.target, key="wrong") as other:
        with pytest.raises(imagelink.Unauthenticated):
            [event async for event in other.scan_stream([b"a"] * 100)]


def test_the_servers_end_is_the_end(server: SessionServer, client: Client) -> None:
    def camera() -> Iterator[bytes]:
        yield b"over"
        while not server.ended.wait(0.01):
            yield b"more"

    assert list(client.scan_stream(camera())) == [SessionEnd(SessionEndReason.MAX_DURATION, 0, 0)]


def test_a_broken_stream_is_raised(server: SessionServer, client: Client) -> None:
    with pytest.raises(imagelink.Unavailable, match="The server stops"):
        list(client.scan_stream([b"break"]))
    with Client(server.target, key="wrong") as other, pytest.raises(imagelink.Unauthenticated):
        list(other.scan_stream([b"a"]))


async def test_what_breaks_the_camera_is_raised(client: Client, server: SessionServer) -> None:
    def camera() -> Iterator[bytes | Path]:
        yield b"poster"
        yield Path("missing.jpg")

    with pytest.raises(FileNotFoundError):
        list(client.scan_stream(camera()))
    async with AsyncClient(server.target, key=KEY) as other:
        with pytest.raises(FileNotFoundError):
            [event async for event in other.scan_stream(camera())]


def test_a_session_that_is_given_up_ends_the_call(server: SessionServer, client: Client) -> None:
    def camera() -> Iterator[bytes]:
        while True:
            yield b"a"
            time.sleep(0.01)

    threads = threading.active_count()
    stream = client.scan_stream(camera())
    next(stream)
    stream.close()
    assert server.ended.wait(10)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads + 1


def test_scan_stream_prints_what_comes_into_view(server: SessionServer, tmp_path: Path) -> None:
    written(tmp_path / "1.jpg", b"poster")
    written(tmp_path / "2.jpg", b"bad")
    result = run(server, "scan-stream", tmp_path)
    assert result.exit_code == 1
    assert "1.jpg: poster  0.900  https://x.example/" in result.stdout
    assert "2 frames, 0 dropped: client closed" in result.stdout
    assert "2.jpg: It is no image." in result.stderr
    assert server.config.keep_late_frames


def test_scan_stream_prints_lines_of_json(server: SessionServer, tmp_path: Path) -> None:
    written(tmp_path / "1.jpg", b"poster")
    written(tmp_path / "2.jpg", b"bad")
    start = time.monotonic()
    result = run(server, "scan-stream", tmp_path, "--json", "--fps", "4")
    assert time.monotonic() - start >= 0.25
    seen, failure, end = map(json.loads, result.stdout.splitlines())
    assert seen["file"].endswith("1.jpg")
    assert (seen["match"]["reference"], seen["evidence_frames"]) == (
        "publishers/acme/references/poster",
        4,
    )
    assert failure["file"].endswith("2.jpg")
    assert failure["error"] == "It is no image."
    assert end == {"reason": "client_closed", "frames": 2, "dropped_frames": 0}
    assert not server.config.keep_late_frames
