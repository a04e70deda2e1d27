"""A clock that jumps: versions and checksums decide, never the time."""

import asyncio
import time
from datetime import timedelta

import psycopg
import pytest

from indexing.replica import ShardReplica
from tests.integration.test_replica import NAMES, Gallery, eager, features, found, gallery, saved

__all__ = ["eager", "features", "gallery"]

YEARS = timedelta(days=3650)


def move_back(dsn: str, publisher: str) -> None:
    """Has the database believe that a publisher was created when its clock was years behind."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "update publisher set create_time = create_time - %s where id = %s", (YEARS, publisher)
        )


async def scanned(replica: ShardReplica, gallery: Gallery, version: int) -> tuple[str, ...]:
    return (await found(replica, gallery.query("acme", version=version))).shortlist


async def test_a_publisher_created_again_before_it_was_deleted_is_another_one(
    gallery: Gallery, postgres_dsn: str, eager: None
) -> None:
    await gallery.register("acme", NAMES[0])
    replica = await gallery.replica()
    await replica.search([gallery.query("acme")])
    await saved(gallery, replica)
    await gallery.store.delete_publisher("acme")
    await gallery.store.create_publisher("acme", "acme", 0.001)
    await asyncio.to_thread(move_back, postgres_dsn, "acme")
    version = await gallery.register("acme", NAMES[1])
    assert await scanned(replica, gallery, version) == (NAMES[1],)
    assert await scanned(await gallery.replica(), gallery, version) == (NAMES[1],)


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
async def test_scans_writes_and_snapshots_go_on_when_a_process_s_clock_jumps(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, eager: None, jump: timedelta
) -> None:
    first = await gallery.register("acme", NAMES[0])
    replica = await gallery.replica()
    assert await scanned(replica, gallery, first) == (NAMES[0],)
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() + jump.total_seconds())
    second = await gallery.register("acme", NAMES[1])
    assert set(await scanned(replica, gallery, second)) == set(NAMES[:2])
    await saved(gallery, replica)
    again = await gallery.replica()
    assert set(await scanned(again, gallery, second)) == set(NAMES[:2])
