"""A server that is killed in the middle of its work, and one that loses all: what comes back."""

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from imagelink import Client, ImageLinkError, Registration

from tests.e2e.harness import RunningServer, Tenant
from tests.e2e.pictures import artworks, encoded, patchwork, photo_of

COUNT = 100
KILL_AFTER = 25
LINK = "https://example.com/"


def test_what_was_acknowledged_outlives_a_kill(own_server: RunningServer) -> None:
    tenant = own_server.tenant()
    images = [encoded(patchwork(1000 + number)) for number in range(COUNT)]
    own_server.remember_processes()
    acknowledged = _killed_while_registering(own_server, tenant, images)
    assert KILL_AFTER <= len(acknowledged) < COUNT

    own_server.start()
    client = own_server.client(tenant.publish_key)
    listed = {each.id: each for each in client.list_references()}
    assert acknowledged <= set(listed)
    assert own_server.operator.get_publisher(tenant.id).gallery_version == len(listed)
    for each in listed.values():
        # Wholly there: the row, the image that it names and the file of that image.
        (image,) = each.images
        assert (image.width, image.height) == (256, 256)
        files = list((own_server.data / "blobs").rglob(f"*{image.image_id}*"))
        assert [file.read_bytes() for file in files] == [images[_number(each.id)]]

    def found(reference: str) -> list[str]:
        result = client.scan(images[_number(reference)], min_gallery_version=len(listed))
        return [match.reference_id for match in result.matches]

    with ThreadPoolExecutor(8) as pool:
        references = sorted(listed)
        assert list(pool.map(found, references)) == [[each] for each in references]


def _killed_while_registering(
    server: RunningServer, tenant: Tenant, images: list[bytes]
) -> set[str]:
    """The ids of what was acknowledged."""
    acknowledged: set[str] = set()
    enough = threading.Event()

    def register(number: int) -> None:
        try:
            tenant.client.register(images[number], link=LINK, reference_id=f"r-{number:03}")
        except ImageLinkError:
            return
        acknowledged.add(f"r-{number:03}")
        if len(acknowledged) >= KILL_AFTER:
            enough.set()

    with ThreadPoolExecutor(COUNT) as pool:
        calls = [pool.submit(register, number) for number in range(COUNT)]
        assert enough.wait(60)
        server.kill()
        for call in calls:
            call.result()
    return acknowledged


def _number(reference: str) -> int:
    return int(reference.removeprefix("r-"))


def test_a_batch_cut_off_by_a_kill_is_completed_by_sending_it_again(
    own_server: RunningServer,
) -> None:
    tenant = own_server.tenant()
    sent = [Registration(encoded(patchwork(number, 128)), LINK) for number in range(60)]
    own_server.remember_processes()
    results = tenant.client.register_all(sent)
    first = list(islice(results, 10))
    own_server.kill()
    with pytest.raises(ImageLinkError):
        list(results)

    own_server.start()
    again = own_server.client(tenant.publish_key).register_all(sent)
    written = {each.registration.request_id: each.written for each in again}

    assert len(written) == len(sent)
    assert None not in written.values()
    assert all(written[each.registration.request_id] == each.written for each in first)
    assert own_server.operator.get_publisher(tenant.id).gallery_version == len(sent)


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
