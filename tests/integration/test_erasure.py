"""Erasures: nothing is left anywhere, the receipt says so, and no crash loses either."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg_pool import AsyncConnectionPool

from benchmarks.artwork import draw_collection
from indexing import gallery_erasures, replica
from indexing.appearance import photo_levels
from indexing.blobs import BlobStore, image_key
from indexing.bundle import Bundle
from indexing.errors import ErasureReceiptNotFound, ReferenceNotFound
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_erasures import ConfirmationState, Erasure, ErasureStore, Receipt
from indexing.gallery_records import NewReference
from indexing.keypoints import Channel
from indexing.reference import Role
from indexing.replica import ShardReplica
from indexing.search import Query, SearchResult
from indexing.shard import Shard
from indexing.snapshot import SnapshotStore
from server import erasing
from server.erasing import Eraser
from server.registration import image_features
from tests.integration.references import a_reference

PICTURE = draw_collection("poster", 1, seed=3)[0].picture
CONFIRMED, AWAITED, LOST = ConfirmationState
AGO = timedelta(minutes=5)


@pytest_asyncio.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[AsyncConnectionPool]:
    pool = await open_pool(postgres_dsn, max_size=8)
    yield pool
    await pool.close()


@pytest.fixture
def erasures(pool: AsyncConnectionPool) -> ErasureStore:
    return ErasureStore(pool)


@pytest.fixture
def blobs() -> BlobStore:
    return BlobStore.from_url("memory://")


@pytest.fixture
def eraser(store: GalleryStore, erasures: ErasureStore, blobs: BlobStore) -> Eraser:
    return Eraser(store, erasures, blobs)


@pytest.fixture(autouse=True)
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(replica, "WATERMARK_SECONDS", 0.05)


class Registered:
    """Registers references with files in the blob store."""

    def __init__(self, store: GalleryStore, blobs: BlobStore) -> None:
        self._store = store
        self._blobs = blobs

    async def __call__(self, *references: str, publisher: str = "acme") -> list[str]:
        return [await self.one(a_reference(name, publisher)) for name in references]

    async def one(self, new: NewReference) -> str:
        key = image_key(new.publisher, new.image.id)
        await self._blobs.put(key, b"image")
        await self._store.register(new)
        return key


@pytest.fixture
def registered(store: GalleryStore, blobs: BlobStore, acme: str) -> Registered:
    return Registered(store, blobs)


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    """Something that goes on without end, until the block ends."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def receipt_when(
    erasures: ErasureStore, erasure: Erasure, condition: Callable[[Receipt], object]
) -> Receipt:
    async with asyncio.timeout(10):
        while True:
            found = await erasures.receipt(erasure.publisher, erasure.id)
            if condition(found):
                return found
            await asyncio.sleep(0.02)


def complete(receipt: Receipt) -> bool:
    return receipt.erasure.complete_time is not None


def states(receipt: Receipt) -> dict[str, ConfirmationState]:
    return {each.replica: each.state for each in receipt.confirmations}


# Rows, files and receipts


async def test_a_deleted_reference_leaves_a_receipt(
    eraser: Eraser, erasures: ErasureStore, blobs: BlobStore, registered: Registered
) -> None:
    gone, kept = await registered("gone", "kept")
    erasure = await eraser.delete_reference("acme", "gone")
    assert (erasure.reference, erasure.gallery_version) == ("gone", 3)
    counts = (erasure.references, erasure.images, erasure.features, erasure.blobs)
    assert counts == (1, 1, 1, 1)
    assert await blobs.keys("images") == [kept] != [gone]
    async with running(eraser.follow()):
        receipt = await receipt_when(erasures, erasure, complete)
    done = receipt.erasure
    assert done.blob_delete_time
    assert done.complete_time
    assert done.request_time < done.blob_delete_time <= done.complete_time


async def test_a_deleted_publisher_leaves_nothing_but_receipts(
    eraser: Eraser,
    erasures: ErasureStore,
    store: GalleryStore,
    blobs: BlobStore,
    registered: Registered,
    postgres_dsn: str,
) -> None:
    await registered("one", "two", "three")
    await store.create_publisher("other", "", 0.001)
    (other,) = await registered("one", publisher="other")
    await store.create_api_key("acme", "key", Role.SCAN, bytes(32), "")
    earlier = await eraser.delete_reference("acme", "three")
    # What a registration leaves that crashed before its row.
    await blobs.put("images/acme/crashed", b"image")

    erasure = await eraser.delete_publisher("acme")

    counts = (erasure.references, erasure.images, erasure.features, erasure.blobs)
    assert counts == (2, 2, 2, 3)
    assert await blobs.keys("images") == [other]
    async with running(eraser.follow()):
        await receipt_when(erasures, erasure, complete)
        await receipt_when(erasures, earlier, complete)
    assert await tables_with(postgres_dsn, "acme") == {"erasure"}


async def tables_with(dsn: str, publisher: str) -> set[str]:
    """The tables that still have a row in which a publisher's id stands."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute(
            "select table_name from information_schema.tables where table_schema = 'public'"
        )
        tables = [name for (name,) in await cursor.fetchall()]
        found = set()
        for table in tables:
            query = f"select 1 from {table} t where t::text like %s limit 1"
            cursor = await connection.execute(query.encode(), (f"%{publisher}%",))
            if await cursor.fetchone():
                found.add(table)
    return found


async def test_a_crash_before_the_files_go_leaves_none_behind(
    eraser: Eraser,
    erasures: ErasureStore,
    store: GalleryStore,
    blobs: BlobStore,
    registered: Registered,
) -> None:
    await registered("one", "two")
    # As far as the transaction, and not a step further.
    first = await store.delete_reference("acme", "one")
    second = await store.delete_publisher("acme")
    assert len(await blobs.keys("images")) == 2
    for erasure in (first, second):
        receipt = await erasures.receipt("acme", erasure.id)
        assert receipt.erasure.blob_delete_time is None

    async with running(eraser.follow()):
        for erasure in (first, second):
            await receipt_when(erasures, erasure, complete)
    assert await blobs.keys("images") == []


class BrokenStore(BlobStore):
    """A blob store that deletes nothing until it is mended, nor tells before that it did."""

    broken = True

    async def delete(self, keys: Sequence[str]) -> None:
        if self.broken:
            raise OSError("no route to the store")
        await super().delete(keys)


async def test_files_wait_for_a_blob_store_that_is_away(
    erasures: ErasureStore, store: GalleryStore, acme: str
) -> None:
    blobs = BrokenStore.from_url("memory://")
    eraser = Eraser(store, erasures, blobs)
    await Registered(store, blobs)("one")
    erasure = await eraser.delete_reference(acme, "one")
    async with running(eraser.follow()):
        await asyncio.sleep(0.2)
        waiting = await erasures.receipt(acme, erasure.id)
        assert (waiting.erasure.blob_delete_time, waiting.erasure.complete_time) == (None, None)
        blobs.broken = False
        await receipt_when(erasures, erasure, complete)
    assert await blobs.keys("images") == []


async def test_several_processes_share_the_files_of_a_large_publisher(
    store: GalleryStore,
    erasures: ErasureStore,
    blobs: BlobStore,
    registered: Registered,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gallery_erasures, "BLOB_BATCH", 3)
    await registered(*(f"r-{number}" for number in range(20)))
    erasure = await store.delete_publisher("acme")
    deleted: list[str] = []

    async def delete(keys: Sequence[str]) -> None:
        deleted.extend(keys)
        await blobs.delete(keys)
        await asyncio.sleep(0)

    async def work() -> None:
        while await erasures.delete_blobs(delete):
            pass

    await asyncio.gather(work(), work(), work())
    assert len(deleted) == len(set(deleted)) == erasure.blobs == 20
    assert await blobs.keys("images") == []


async def test_a_refused_deletion_leaves_no_receipt(
    eraser: Eraser, registered: Registered, postgres_dsn: str
) -> None:
    await registered("one")
    with pytest.raises(ReferenceNotFound):
        await eraser.delete_reference("acme", "none")
    assert "erasure" not in await tables_with(postgres_dsn, "acme")


async def test_a_receipt_is_found_under_its_publisher_alone(
    eraser: Eraser, registered: Registered
) -> None:
    await registered("one")
    erasure = await eraser.delete_reference("acme", "one")
    for publisher, receipt in (("other", erasure.id), ("acme", "none")):
        with pytest.raises(ErasureReceiptNotFound):
            await eraser.receipt(publisher, receipt)


async def test_receipts_are_listed_in_the_order_of_the_deletions(
    eraser: Eraser, erasures: ErasureStore, store: GalleryStore, registered: Registered
) -> None:
    await registered("one", "two", "three")
    await store.create_publisher("other", "", 0.001)
    await registered("theirs", publisher="other")
    await eraser.delete_reference("other", "theirs")
    asked = [await eraser.delete_reference("acme", name) for name in ("two", "one")]
    asked.append(await eraser.delete_publisher("acme"))
    await erasures.see_replica("index")
    await erasures.confirm("index", [asked[0].id])

    first = await eraser.receipts("acme", None, 2)
    second = await eraser.receipts("acme", first[-1].erasure.id, 2)
    found = [*first, *second]
    assert [each.erasure.id for each in found] == [erasure.id for erasure in asked]
    assert [each.erasure.reference for each in found] == ["two", "one", None]
    assert [list(states(each).values()) for each in found] == [[CONFIRMED], [AWAITED], [AWAITED]]
    assert await eraser.receipts("nobody", None, 2) == []


# Indexes


class Indexes:
    """Shard replicas on one database, and a gallery that they can search."""

    def __init__(
        self,
        bundle: Bundle,
        store: GalleryStore,
        erasures: ErasureStore,
        registered: Registered,
        folder: Path,
    ) -> None:
        self._bundle = bundle
        self._folder = folder
        self._store = store
        self._erasures = erasures
        self._registered = registered
        self._extractor = FeatureExtractor(bundle)

    async def register(self, reference: str) -> None:
        features = image_features(self._extractor, PICTURE)
        await self._registered.one(a_reference(reference, features=(features,)))

    def replica(self, name: str) -> ShardReplica:
        return ShardReplica(
            Shard(self._bundle).generation,
            self._store,
            SnapshotStore(self._folder),
            self._erasures,
            name,
            memory_budget=1_000_000_000,
        )

    async def shortlist(self, searched: ShardReplica) -> tuple[str, ...]:
        local = self._extractor.query(PICTURE, Channel.ORB)
        levels = photo_levels(PICTURE)
        query = Query(0, "acme", self._bundle.version, Channel.ORB, local, levels)
        (found,) = await searched.search([query])
        assert isinstance(found, SearchResult)
        return found.shortlist


@pytest.fixture
def indexes(
    bundle: Bundle,
    store: GalleryStore,
    erasures: ErasureStore,
    registered: Registered,
    tmp_path: Path,
) -> Indexes:
    return Indexes(bundle, store, erasures, registered, tmp_path)


@pytest.mark.parametrize("whole", [False, True])
async def test_a_receipt_waits_for_each_index(
    indexes: Indexes, eraser: Eraser, erasures: ErasureStore, whole: bool
) -> None:
    await indexes.register("one")
    quick, slow, empty = (indexes.replica(name) for name in ("quick", "slow", "empty"))
    for each in (quick, slow):
        assert await indexes.shortlist(each) == ("one",)
    delete = eraser.delete_publisher("acme") if whole else eraser.delete_reference("acme", "one")
    erasure = await delete
    async with running(eraser.follow()):
        async with running(quick.follow()), running(empty.follow()):
            expected = {"empty": CONFIRMED, "quick": CONFIRMED, "slow": AWAITED}
            receipt = await receipt_when(
                erasures, erasure, lambda receipt: states(receipt) == expected
            )
        assert await indexes.shortlist(slow) == ("one",)
        assert not complete(receipt)
        async with running(slow.follow()):
            receipt = await receipt_when(erasures, erasure, complete)
    assert states(receipt) == dict.fromkeys(("empty", "quick", "slow"), CONFIRMED)
    last = max(each.time for each in receipt.confirmations if each.time)
    assert receipt.erasure.complete_time
    assert last <= receipt.erasure.complete_time


async def test_a_lost_index_does_not_hold_up_a_receipt_and_confirms_when_it_is_back(
    indexes: Indexes, eraser: Eraser, erasures: ErasureStore, postgres_dsn: str
) -> None:
    await indexes.register("one")
    cut_off = indexes.replica("cut-off")
    await indexes.shortlist(cut_off)
    erasure = await eraser.delete_reference("acme", "one")
    async with running(eraser.follow()):
        await receipt_when(erasures, erasure, lambda receipt: receipt.erasure.blob_delete_time)
        await time_passes(postgres_dsn)
        receipt = await receipt_when(erasures, erasure, complete)
        assert states(receipt) == {"cut-off": LOST}
        async with running(cut_off.follow()):
            await receipt_when(
                erasures, erasure, lambda receipt: states(receipt) == {"cut-off": CONFIRMED}
            )


async def time_passes(dsn: str) -> None:
    """Puts all that happened so far into the past, beyond the lease."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("update erasure set request_time = request_time - %s", (AGO,))
        await connection.execute("update shard_replica set seen_time = seen_time - %s", (AGO,))


async def test_an_index_that_ended_before_is_not_on_the_receipt(
    indexes: Indexes, eraser: Eraser, erasures: ErasureStore, postgres_dsn: str
) -> None:
    await indexes.register("one")
    await indexes.shortlist(indexes.replica("ended"))
    await time_passes(postgres_dsn)
    erasure = await eraser.delete_reference("acme", "one")
    async with running(eraser.follow()):
        receipt = await receipt_when(erasures, erasure, complete)
    assert receipt.confirmations == ()


async def test_an_erased_publisher_is_told_from_its_successor_of_the_same_id(
    indexes: Indexes, eraser: Eraser, erasures: ErasureStore, store: GalleryStore
) -> None:
    for reference in ("one", "two", "three"):
        await indexes.register(reference)
    old, new = indexes.replica("old"), indexes.replica("new")
    await indexes.shortlist(old)
    erasure = await eraser.delete_publisher("acme")
    await store.create_publisher("acme", "", 0.001)
    await indexes.register("one")
    assert len(await indexes.shortlist(new)) == 1
    async with running(eraser.follow()):
        async with running(new.follow()):
            expected = {"new": CONFIRMED, "old": AWAITED}
            await receipt_when(erasures, erasure, lambda receipt: states(receipt) == expected)
        async with running(old.follow()):
            await receipt_when(erasures, erasure, complete)
        assert len(await indexes.shortlist(old)) == 1
