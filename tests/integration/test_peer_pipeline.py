"""What the serving benchmark compares ImageLink with: its table, its scans, its server."""

import json
import os
from pathlib import Path
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from benchmarks import peers
from benchmarks.load import Caller, Shot, request_body
from benchmarks.peer_pipeline import NEAREST, VERIFIED, PeerPipeline, register
from indexing.bundle import DEFAULT_BUNDLE
from tests.conftest import Postgres
from tests.e2e.pictures import artworks, encoded, strangers

PICTURES = {f"r{number}": picture for number, picture in enumerate(artworks()[:4])}
UNKNOWN = strangers()[0]


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    made = postgres.create_database()
    files = {name: encoded(picture) for name, picture in PICTURES.items()}
    register(DEFAULT_BUNDLE, made, files, ["acme", "other"])
    return made


def turned(name: str) -> bytes:
    height, width = PICTURES[name].shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 15, 0.9)
    return encoded(np.asarray(cv2.warpAffine(PICTURES[name], turn, (width, height)), np.uint8))


@pytest.mark.parametrize("verifies", [False, True])
def test_photos_of_a_batch_are_recognised_each_in_its_publishers_gallery(
    dsn: str, verifies: bool
) -> None:
    pipeline = PeerPipeline(DEFAULT_BUNDLE, dsn, verifies=verifies)
    asked = [("acme", turned("r1")), ("other", turned("r2")), ("nobody", turned("r3"))]
    assert pipeline.scan(asked) == [["r1"], ["r2"], []]


def test_a_stranger_is_verified_as_nothing(dsn: str) -> None:
    pipeline = PeerPipeline(DEFAULT_BUNDLE, dsn, verifies=True)
    assert pipeline.scan([("acme", encoded(UNKNOWN))]) == [[]]


@pytest.mark.skipif(not peers.installed(), reason="mosec, of the group 'peers', is not installed")
def test_a_server_answers_on_both_routes(dsn: str, tmp_path: Path) -> None:
    body = request_body(Caller("one", "acme", []), Shot(turned("r1"), frozenset({"r1"})))
    with peers._server(DEFAULT_BUNDLE, dsn, tmp_path, body) as (url, pid):
        for route in (NEAREST, VERIFIED):
            with urlopen(url + route, body, timeout=30) as answer:
                assert json.load(answer) == ["r1"]
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
