"""The ``imagelink`` command against a real server."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.e2e.harness import RunningServer
from tests.e2e.pictures import artworks, encoded, photo_of

COMMAND = Path(sys.executable).with_name("imagelink")


def run(
    server: RunningServer, key: str, *arguments: str | Path
) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"IMAGELINK_TARGET": server.target, "IMAGELINK_KEY": key}
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )


def output(server: RunningServer, key: str, *arguments: str | Path) -> str:
    done = run(server, key, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(artworks()[:2]):
        (folder / f"Poster {number}.png").write_bytes(encoded(picture, "PNG"))
    return folder


def test_from_a_publisher_to_a_scanned_photo(
    server: RunningServer, pictures: Path, tmp_path: Path
) -> None:
    publisher = f"cli-{uuid.uuid4().hex[:8]}"
    assert publisher in output(server, server.operator_key, "publisher", "create", publisher)
    created = output(
        server, server.operator_key, "key", "create", publisher, "--role", "publish", "--json"
    )
    key = json.loads(created)["key"]

    template = "https://example.com/{name}"
    told = output(server, key, "register", pictures, "--link-template", template)
    assert "2 registered" in told
    again = output(server, key, "register", pictures, "--link-template", template)
    assert "2 already registered" in again

    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encoded(photo_of(artworks()[1]).photo))
    scanned = json.loads(output(server, key, "scan", photo, "--min-gallery-version", "2", "--json"))
    assert [match["link"] for match in scanned["matches"]] == ["https://example.com/poster-1"]

    listed = output(server, key, "reference", "list", "--json").splitlines()
    assert [json.loads(line)["link"] for line in listed] == [
        "https://example.com/poster-0",
        "https://example.com/poster-1",
    ]
    output(server, key, "reference", "delete", "poster-1", "--publisher", publisher, "--yes")
    listed = output(server, key, "reference", "list", "--json").splitlines()
    assert [json.loads(line)["link"] for line in listed] == ["https://example.com/poster-0"]
    scanned = json.loads(output(server, key, "scan", photo, "--min-gallery-version", "3", "--json"))
    assert scanned["matches"] == []


def test_refused_call_ends_with_a_sentence(server: RunningServer, pictures: Path) -> None:
    done = run(server, "il_wrong_key", "register", pictures, "--link", "https://example.com/")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "The API key is malformed, unknown or revoked: use a valid one.\n"
