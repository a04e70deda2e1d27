"""Scans kept with their publishers' consent: what is kept, for how long, and what ends it."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import timedelta

import numpy as np
import psycopg
import pytest
import pytest_asyncio
from PIL import Image
from psycopg_pool import AsyncConnectionPool

from indexing.blobs import BlobStore, scan_key
from indexing.decision import Match
from indexing.errors import DatabaseUnavailable, PublisherNotFound
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_scans import KeptScan, KeptScanStore
from indexing.gallery_statements import EVERY_PUBLISHER, lock_publisher, transaction
from indexing.migrations import migrate
from indexing.queries import QUERIES
from indexing.recognition import Photo, Recognition
from indexing.reference import Publisher
from server import keeping
from server.erasing import Eraser
from server.keeping import Keeper
from server.scanning import Scan
from tests.conftest import Postgres
from tests.integration.references import MODEL, a_reference
from tests.unit.sightings import candidate

DAYS = 30
PHOTO = np.full((48, 64, 3), 200, np.uint8)


@pytest_asyncio.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[AsyncConnectionPool]:
    pool = await open_pool(postgres_dsn, max_size=4)
    yield pool
    await pool.close()


@pytest.fixture
def scans(pool: AsyncConnectionPool) -> KeptScanStore:
    return KeptScanStore(pool)


@pytest.fixture
def blobs() -> BlobStore:
    return BlobStore.from_url("memory://")


@pytest_asyncio.fixture
async def consenting(store: GalleryStore, acme: str) -> Publisher:
    """A publisher that agreed to three, with the references "one" and "two"."""
    for name in ("one", "two"):
        await store.register(a_reference(name))
    return await store.update_publisher(acme, max_kept_scans=3)


async def keep(
    scans: KeptScanStore, blobs: BlobStore, publisher: Publisher, scan_id: str, *answered: str
) -> bool:
    return await scans.keep(
        publisher, scan_id, answered, MODEL, lambda key: blobs.put(key, b"photo")
    )


async def sweep(scans: KeptScanStore, blobs: BlobStore) -> int:
    return await scans.remove_surplus(DAYS, blobs.delete)


async def kept(scans: KeptScanStore, publisher: str = "acme") -> list[str]:
    return [scan.id for scan in await scans.sample(99) if scan.publisher == publisher]


async def rows(pool: AsyncConnectionPool) -> list[tuple[str, str]]:
    async with transaction(pool, EVERY_PUBLISHER) as connection:
        cursor = await connection.execute("select publisher_id, id from kept_scan order by 1, 2")
        return await cursor.fetchall()


async def grow_older(dsn: str, scan_id: str, age: timedelta) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(
            "update kept_scan set scan_time = scan_time - %s where id = %s", (age, scan_id)
        )


def a_scan(scan_id: str, *answered: str) -> Scan:
    matches = tuple(Match(candidate(reference, 20.0), 9.0) for reference in answered)
    found = Recognition(MODEL, matches, None, 1, (), (), {}, {})
    return Scan(scan_id, found, {}, Photo("acme", PHOTO, 0.001), (4000, 3000))


# What is kept, and how long


async def test_without_consent_nothing_is_kept(
    scans: KeptScanStore, blobs: BlobStore, store: GalleryStore, consenting: Publisher
) -> None:
    withdrawn = await store.update_publisher("acme", max_kept_scans=0)
    # Whoever was told of the consent a moment ago is told better.
    for publisher in (consenting, withdrawn):
        assert not await keep(scans, blobs, publisher, "scan")
    assert await blobs.keys("scans") == []
    assert await kept(scans) == []


async def test_a_scan_of_another_publisher_of_the_name_or_of_a_reference_that_is_gone_is_not_kept(
    scans: KeptScanStore, blobs: BlobStore, store: GalleryStore, consenting: Publisher
) -> None:
    await store.delete_reference("acme", "one")
    assert not await keep(scans, blobs, consenting, "gone", "one", "two")
    assert await keep(scans, blobs, consenting, "there", "two")
    await store.delete_publisher("acme")
    with pytest.raises(PublisherNotFound):
        await keep(scans, blobs, consenting, "late")
    await store.create_publisher("acme", "", 0.001, max_kept_scans=3)
    assert not await keep(scans, blobs, consenting, "of the former")
    assert await blobs.keys("scans") == [scan_key("acme", "there")], "the erasure has its key"


async def test_the_newest_stay_and_the_others_go_with_their_photos(
    scans: KeptScanStore, blobs: BlobStore, store: GalleryStore, consenting: Publisher
) -> None:
    other = await store.create_publisher("other", "", 0.001, max_kept_scans=9)
    for number in range(5):
        assert await keep(scans, blobs, consenting, f"scan-{number}")
        assert await keep(scans, blobs, other, f"scan-{number}")
    assert await sweep(scans, blobs) == 2
    assert await kept(scans) == ["scan-2", "scan-3", "scan-4"]
    assert len(await kept(scans, "other")) == 5
    keys = [scan_key("acme", f"scan-{number}") for number in (2, 3, 4)]
    assert sorted(await blobs.keys("scans/acme")) == keys
    assert await sweep(scans, blobs) == 0

    await store.update_publisher("acme", max_kept_scans=1)
    await sweep(scans, blobs)
    assert await kept(scans) == ["scan-4"]


async def test_a_withdrawn_consent_is_heeded_at_once_and_leaves_nothing(
    scans: KeptScanStore,
    blobs: BlobStore,
    store: GalleryStore,
    consenting: Publisher,
    pool: AsyncConnectionPool,
) -> None:
    await keep(scans, blobs, consenting, "scan")
    await store.update_publisher("acme", max_kept_scans=0)
    assert await scans.sample(9) == []
    await sweep(scans, blobs)
    assert (await rows(pool), await blobs.keys("scans")) == ([], [])


async def test_what_is_too_old_goes(
    scans: KeptScanStore, blobs: BlobStore, consenting: Publisher, postgres_dsn: str
) -> None:
    for name in ("old", "new"):
        await keep(scans, blobs, consenting, name)
    await grow_older(postgres_dsn, "old", timedelta(days=DAYS, hours=1))
    await grow_older(postgres_dsn, "new", timedelta(days=DAYS, hours=-1))
    await sweep(scans, blobs)
    assert await kept(scans) == ["new"]
    assert await blobs.keys("scans") == [scan_key("acme", "new")]


async def test_a_crash_while_a_photo_is_written_leaves_nothing_for_ever(
    scans: KeptScanStore,
    blobs: BlobStore,
    consenting: Publisher,
    postgres_dsn: str,
    pool: AsyncConnectionPool,
) -> None:
    async def written_and_lost(key: str) -> None:
        await blobs.put(key, b"photo")
        raise OSError("the process ends here")

    with pytest.raises(OSError, match="ends here"):
        await scans.keep(consenting, "crashed", [], MODEL, written_and_lost)
    assert await kept(scans) == []
    await sweep(scans, blobs)
    assert await rows(pool) == [("acme", "crashed")], "it may be under way"
    await grow_older(postgres_dsn, "crashed", timedelta(minutes=2))
    await sweep(scans, blobs)
    assert (await rows(pool), await blobs.keys("scans")) == ([], [])


async def test_a_blob_store_that_is_away_loses_no_photo_of_which_the_row_is_gone(
    scans: KeptScanStore, blobs: BlobStore, store: GalleryStore, consenting: Publisher
) -> None:
    async def away(keys: object) -> None:
        raise OSError("no route to the store")

    await keep(scans, blobs, consenting, "scan")
    await store.update_publisher("acme", max_kept_scans=0)
    with pytest.raises(OSError, match="no route"):
        await scans.remove_surplus(DAYS, away)
    assert await sweep(scans, blobs) == 1
    assert await blobs.keys("scans") == []


async def test_the_sample_is_of_as_many_publishers_as_may_be(
    scans: KeptScanStore, blobs: BlobStore, store: GalleryStore, consenting: Publisher
) -> None:
    other = await store.create_publisher("other", "", 0.001, max_kept_scans=9)
    for number in range(3):
        await keep(scans, blobs, consenting, f"scan-{number}")
    await keep(scans, blobs, other, "theirs")
    assert set(await scans.sample(2)) == {KeptScan("acme", "scan-0"), KeptScan("other", "theirs")}


# Erasure


async def test_a_deleted_reference_takes_the_scans_along_that_show_it(
    scans: KeptScanStore,
    blobs: BlobStore,
    store: GalleryStore,
    consenting: Publisher,
    pool: AsyncConnectionPool,
) -> None:
    for name, answered in (("both", ("one", "two")), ("other", ("two",)), ("none", ())):
        await keep(scans, blobs, consenting, name, *answered)
    eraser = Eraser(store, ErasureStore(pool), blobs)
    erasure = await eraser.delete_reference("acme", "one")
    assert (erasure.references, erasure.scans, erasure.blobs) == (1, 1, 2)
    assert await kept(scans) == ["none", "other"]
    assert len(await blobs.keys("scans")) == 2
    receipt = await eraser.receipt("acme", erasure.id)
    assert receipt.erasure.scans == 1


async def test_a_deleted_publisher_takes_all_its_scans_along(
    scans: KeptScanStore,
    blobs: BlobStore,
    store: GalleryStore,
    consenting: Publisher,
    pool: AsyncConnectionPool,
) -> None:
    other = await store.create_publisher("other", "", 0.001, max_kept_scans=9)
    await keep(scans, blobs, other, "theirs")
    for name in ("first", "second"):
        await keep(scans, blobs, consenting, name)
    erasure = await Eraser(store, ErasureStore(pool), blobs).delete_publisher("acme")
    assert (erasure.references, erasure.scans, erasure.blobs) == (2, 2, 4)
    assert await rows(pool) == [("other", "theirs")]
    assert await blobs.keys("scans") == [scan_key("other", "theirs")]


@pytest.mark.parametrize("reference", ["one", None])
async def test_a_photo_that_is_being_written_is_erased_too(
    scans: KeptScanStore,
    blobs: BlobStore,
    store: GalleryStore,
    consenting: Publisher,
    pool: AsyncConnectionPool,
    reference: str | None,
) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def slow(key: str) -> None:
        begun.set()
        await over.wait()
        await blobs.put(key, b"photo")

    eraser = Eraser(store, ErasureStore(pool), blobs)
    keeping_it = asyncio.create_task(scans.keep(consenting, "scan", ["one"], MODEL, slow))
    await begun.wait()
    erased = (
        eraser.delete_publisher("acme")
        if reference is None
        else eraser.delete_reference("acme", reference)
    )
    erasing_it = asyncio.create_task(erased)
    await asyncio.sleep(0.2)
    assert not erasing_it.done()
    over.set()
    assert await keeping_it
    assert (await erasing_it).scans == 1
    assert (await rows(pool), await blobs.keys("scans")) == ([], [])


async def test_a_scan_whose_answer_is_being_erased_is_not_kept(
    scans: KeptScanStore, blobs: BlobStore, consenting: Publisher, pool: AsyncConnectionPool
) -> None:
    whose = {"publisher": "acme", "reference": "one"}
    async with transaction(pool, "acme") as erasing_it:
        await lock_publisher(erasing_it, "acme")
        await erasing_it.execute(QUERIES["delete_reference"], whose)
        keeping_it = asyncio.create_task(keep(scans, blobs, consenting, "scan", "one"))
        await asyncio.sleep(0.2)
        assert not keeping_it.done()
    assert not await keeping_it
    assert (await rows(pool), await blobs.keys("scans")) == ([], [])


# The keeper


async def until_kept(scans: KeptScanStore, count: int) -> list[KeptScan]:
    async with asyncio.timeout(10):
        while True:
            found = await scans.sample(99)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_a_photo_is_kept_without_what_its_file_said_beside_the_pixels(
    scans: KeptScanStore, blobs: BlobStore, consenting: Publisher, pool: AsyncConnectionPool
) -> None:
    keeper = Keeper(scans, blobs, DAYS)
    keeper.note(consenting, a_scan("scan", "one"))
    await keeper.keep_next()
    (scan,) = await scans.sample(9)
    with Image.open(io.BytesIO(await blobs.get(scan.key))) as photo:
        assert (photo.format, photo.size) == ("JPEG", (64, 48))
        assert not photo.getexif()
        assert not photo.info.keys() & {"exif", "comment", "icc_profile", "xmp"}
        assert np.abs(np.asarray(photo, int) - PHOTO).max() <= 2
    async with transaction(pool, "acme") as connection:
        cursor = await connection.execute("select answered, model_version from kept_scan")
        assert await cursor.fetchall() == [(["one"], MODEL)]


async def test_of_a_flood_one_is_kept_and_nothing_of_whoever_did_not_agree(
    scans: KeptScanStore,
    blobs: BlobStore,
    store: GalleryStore,
    consenting: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "INTERVAL_SECONDS", 0.5)
    silent = await store.create_publisher("silent", "", 0.001)
    keeper = Keeper(scans, blobs, DAYS)
    following = asyncio.create_task(keeper.follow())
    for number in range(50):
        keeper.note(consenting, a_scan(f"scan-{number}"))
        keeper.note(silent, a_scan(f"scan-{number}"))
    assert await until_kept(scans, 1) == [KeptScan("acme", "scan-0")]
    await asyncio.sleep(0.6)
    keeper.note(consenting, a_scan("later"))
    assert set(await until_kept(scans, 2)) == {
        KeptScan("acme", "scan-0"),
        KeptScan("acme", "later"),
    }
    following.cancel()


async def test_a_full_queue_holds_no_scan_and_drops_it(
    scans: KeptScanStore, blobs: BlobStore, store: GalleryStore
) -> None:
    many = [
        await store.create_publisher(f"p-{number:02}", "", 0.001, max_kept_scans=1)
        for number in range(keeping.MOST_WAITING + 3)
    ]
    keeper = Keeper(scans, blobs, DAYS)
    for publisher in many:
        keeper.note(publisher, a_scan("scan"))
    following = asyncio.create_task(keeper.follow())
    await until_kept(scans, keeping.MOST_WAITING)
    keeper.note(many[-1], a_scan("again within the interval"))
    await asyncio.sleep(0.2)
    found = await scans.sample(99)
    assert [scan.publisher for scan in found] == [p.id for p in many[: keeping.MOST_WAITING]]
    following.cancel()


async def test_while_the_blob_store_or_the_database_is_away_scans_are_dropped(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(BlobStore):
        async def put(self, key: str, data: bytes) -> None:
            await asyncio.sleep(60)

    monkeypatch.setattr(keeping, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(keeping, "KEEP_SECONDS", 0.3)
    dsn = own_postgres.create_database()
    await migrate(dsn)
    pool = await open_pool(dsn, max_size=2, acquire_timeout=0.2)
    scans, store = KeptScanStore(pool), GalleryStore(pool)
    acme = await store.create_publisher("acme", "", 0.001, max_kept_scans=3)

    away = Keeper(scans, Away.from_url("memory://"), DAYS)
    away.note(acme, a_scan("lost"))
    with pytest.raises(TimeoutError):
        await away.keep_next()

    keeper = Keeper(scans, BlobStore.from_url("memory://"), DAYS)
    own_postgres.stop()
    keeper.note(acme, a_scan("lost too"))
    with pytest.raises((DatabaseUnavailable, TimeoutError)):
        await keeper.keep_next()
    own_postgres.start()
    following = asyncio.create_task(keeper.follow())
    async with asyncio.timeout(10):
        while True:
            keeper.note(acme, a_scan("kept"))
            try:
                found = await until_kept(scans, 1)
                break
            except DatabaseUnavailable:
                await asyncio.sleep(0.1)
    assert found == [KeptScan("acme", "kept")]
    following.cancel()
    await pool.close()
