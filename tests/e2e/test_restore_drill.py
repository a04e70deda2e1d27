"""The restore drill: all comes back, with the same answers and the same erasures."""

import shutil
import subprocess
import sys
from pathlib import Path

from imagelink import Client

from tests.e2e.harness import RunningServer
from tests.e2e.pictures import artworks, encoded, photo_of

LINK = "https://example.com/"


def command(server: RunningServer, *words: object) -> str:
    """``python -m server`` with a command, on the server's data."""
    done = subprocess.run(
        [sys.executable, "-m", "server", *map(str, words), f"--data-dir={server.data}"],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert "Failed" not in done.stderr
    return done.stdout


def answers(client: Client, at_least: int | None = None) -> list[list[str]]:
    photos = [encoded(photo_of(artworks()[number]).photo) for number in range(4)]
    results = [client.scan(photo, min_gallery_version=at_least) for photo in photos]
    return [[match.reference_id for match in result.matches] for result in results]


def test_all_comes_back_but_what_was_erased(own_server: RunningServer, tmp_path: Path) -> None:
    tenant = own_server.tenant()
    for number in range(4):
        tenant.client.register(
            encoded(artworks()[number]), link=LINK, reference_id=f"poster-{number}"
        )
    tenant.client.delete_reference("poster-0", publisher=tenant.id)
    backups = tmp_path / "backups"
    # While the server runs.
    made = command(own_server, "backup", backups)
    assert made.endswith(" files.\n")
    tenant.client.delete_reference("poster-1", publisher=tenant.id)
    command(own_server, "erasures", backups)
    before = answers(tenant.client, 6)
    assert before == [[], [], ["poster-2"], ["poster-3"]]
    references = list(tenant.client.list_references())
    receipts = [each.name for each in own_server.operator.list_erasure_receipts(tenant.id)]
    assert len(receipts) == 2

    # The database, files, snapshots and the operator's key: all is lost.
    own_server.stop()
    shutil.rmtree(own_server.data)
    told = command(own_server, "restore", made.partition(" has ")[0])
    assert told.endswith("Erased again: 1 receipts.\n")
    own_server.start()

    client = own_server.client(tenant.publish_key)
    assert answers(client) == before
    assert list(client.list_references()) == references
    found = [each.name for each in own_server.operator.list_erasure_receipts(tenant.id)]
    assert found == receipts
    # The restored gallery goes on.
    client.register(encoded(artworks()[0]), link=LINK, reference_id="poster-0")
    assert answers(client, 6)[0] == ["poster-0"]
