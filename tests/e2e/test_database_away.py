"""PostgreSQL is away: scans go on from what the shards hold, writes are refused until it is back."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from imagelink import ImageLinkError, Unavailable

from tests.conftest import Postgres
from tests.e2e.harness import RunningServer
from tests.e2e.pictures import artworks, encoded, photo_of

LINK = "https://example.com/"
RECOVERY_SECONDS = 10


@pytest.fixture
def server_beside(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningServer]:
    """A server whose PostgreSQL is not its own, so that a test may stop and start it."""
    monkeypatch.setenv("IMAGELINK_DATABASE_URL", own_postgres.create_database())
    directory = Path(tempfile.mkdtemp(prefix="imagelink-e2e-"))
    running = RunningServer(directory / "data")
    try:
        running.start()
        yield running
    finally:
        running.abandon()
        shutil.rmtree(directory, ignore_errors=True)


def test_scans_go_on_while_postgresql_is_away(
    server_beside: RunningServer, own_postgres: Postgres
) -> None:
    tenant, other = server_beside.tenant(), server_beside.tenant()
    picture = artworks()[0]
    photo = encoded(photo_of(picture).photo)
    written = tenant.client.register(encoded(picture), link=LINK, reference_id="poster")
    tenant.client.scan(photo, min_gallery_version=written.gallery_version)

    own_postgres.stop()
    # Past the time in which a key that was looked up is not looked up again.
    away_until = time.monotonic() + 7
    while time.monotonic() < away_until:
        start = time.monotonic()
        result = tenant.client.scan(photo, timeout=10)
        assert time.monotonic() - start < 3
        assert [match.reference_id for match in result.matches] == ["poster"]
        assert result.gallery_version == written.gallery_version
    with pytest.raises(Unavailable) as refused:
        tenant.client.register(encoded(artworks()[1]), link=LINK, reference_id="refused")
    assert refused.value.reason == "DATABASE_UNAVAILABLE"
    assert refused.value.retry_after
    # Neither its key nor its gallery was ever looked up.
    with pytest.raises(Unavailable):
        other.client.scan(photo)

    own_postgres.start()
    started = time.monotonic()
    while time.monotonic() < started + RECOVERY_SECONDS:
        with suppress(ImageLinkError):
            tenant.client.register(encoded(artworks()[1]), link=LINK, reference_id="second")
            break
    second = encoded(photo_of(artworks()[1]).photo)
    version = written.gallery_version + 1
    found = tenant.client.scan(second, min_gallery_version=version)
    assert [match.reference_id for match in found.matches] == ["second"]
    assert time.monotonic() - started < RECOVERY_SECONDS
    assert {each.id for each in tenant.client.list_references()} == {"poster", "second"}
    assert not other.client.scan(photo)
    server_beside.stop()
