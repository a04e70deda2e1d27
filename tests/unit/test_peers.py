import json
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import peers, serving
from benchmarks.load import OK, Caller, Shot, run_load
from benchmarks.peer_verification import keypoints, stands_in
from benchmarks.peers import PeerFigures, ratio
from benchmarks.serving import Show
from indexing.image import Pixels
from tests.e2e.pictures import patchwork

TILTED = np.array([[40, 60], [250, 30], [270, 290], [20, 250]], np.float32)


def photo_of(picture: Pixels) -> Pixels:
    """The picture on a grey table, aslant."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    aslant = cv2.getPerspectiveTransform(corners, TILTED)
    table = np.full((320, 320, 3), 140, np.uint8)
    seen = cv2.warpPerspective(
        picture, aslant, (320, 320), dst=table, borderMode=cv2.BORDER_TRANSPARENT
    )
    return np.asarray(seen, np.uint8)


def figures(scans_per_second: float, verifies: bool) -> PeerFigures:
    return PeerFigures(
        name="peer",
        verifies=verifies,
        scans_per_second=scans_per_second,
        p50_ms=1.0,
        p99_ms=2.0,
        right_share=1.0,
        failed_share=0.0,
        cpu_ms_per_scan=3.0,
    )


class Answering(BaseHTTPRequestHandler):
    """A peer of one publisher, 'acme', who has one reference, 'poster', which every photo shows."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        publisher, _, photo = body.partition(b"\n")
        self.send_response(200 if publisher == b"acme" else 500)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(["poster"] if photo == b"a\nphoto" else []).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_drawn_picture_is_verified_in_a_photo_of_it_and_in_no_other() -> None:
    picture, other = patchwork(1), patchwork(2)
    photo = keypoints(photo_of(picture))
    assert stands_in(photo, keypoints(picture))
    assert not stands_in(photo, keypoints(other))


def test_what_has_no_keypoints_is_verified_in_nothing() -> None:
    plain, picture = np.full((200, 200, 3), 90, np.uint8), patchwork(1)
    assert not stands_in(keypoints(picture), keypoints(plain))
    assert not stands_in(keypoints(plain), keypoints(picture))


def test_a_pace_is_held_against_the_fastest_peer_that_does_the_same_work() -> None:
    measured = [figures(90.0, verifies=False), figures(20.0, True), figures(30.0, True)]
    assert ratio(45.0, measured, verifies=True) == 1.5
    assert ratio(45.0, measured, verifies=False) == 0.5


def test_there_is_no_ratio_without_peers() -> None:
    assert ratio(45.0, None, verifies=True) is None
    assert ratio(45.0, [figures(90.0, verifies=False)], verifies=True) is None


def test_load_over_http_tells_right_from_wrong_and_failed(answering: str) -> None:
    right, wrong = Shot(b"a\nphoto", frozenset({"poster"})), Shot(b"a\nphoto", frozenset())
    callers = [
        Caller("right", "acme", [right], in_flight=1),
        Caller("wrong", "acme", [wrong], in_flight=1),
        Caller("failed", "other", [right], in_flight=1),
    ]
    calls = run_load(answering, callers, 0.2)
    outcomes = {(call.caller, call.status == OK, call.right) for call in calls}
    assert outcomes == {("right", True, True), ("wrong", True, False), ("failed", False, False)}


def test_peers_that_are_not_installed_are_left_out_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert serving._peers(Path("bundle"), Show({}, []), 1.0) is None
    said = " ".join(capsys.readouterr().out.split())
    assert said == peers.MISSING
    groups = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "peers" in groups["dependency-groups"]
    assert "--group peers" in said
