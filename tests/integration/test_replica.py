"""A shard's replica on a real database: loading, parts, memory, snapshots, outages."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from benchmarks.artwork import draw_collection
from indexing.appearance import photo_levels
from indexing.bundle import Bundle
from indexing.errors import DatabaseUnavailable, GalleryVersionNotReached, PublisherNotFound
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_records import ImageFeatures
from indexing.keypoints import Channel
from indexing.placement import WHOLE, Generation, Part
from indexing.replica import ShardReplica
from indexing.search import Query, SearchResult
from indexing.shard import Shard
from indexing.snapshot import SnapshotStore
from server.registration import image_features
from tests.integration.references import a_reference

PICTURES = {art.name: art.picture for art in draw_collection("poster", 4, seed=3)}
NAMES = tuple(PICTURES)
NOBODY = Part(5, 100)


@pytest.fixture(scope="module")
def features(extractor: FeatureExtractor) -> dict[str, ImageFeatures]:
    return {name: image_features(extractor, picture) for name, picture in PICTURES.items()}


class Gallery:
    """Publishers' galleries, and replicas that search them."""

    def __init__(
        self,
        store: GalleryStore,
        dsn: str,
        bundle: Bundle,
        extractor: FeatureExtractor,
        features: dict[str, ImageFeatures],
        folder: Path,
    ) -> None:
        self.store = store
        self.folder = folder
        self._dsn = dsn
        self._bundle = bundle
        self._extractor = extractor
        self._features = features
        self._pools: list[object] = []

    async def register(self, publisher: str, name: str) -> int:
        new = a_reference(name, publisher=publisher, features=(self._features[name],))
        return (await self.store.register(new)).gallery_version

    async def replica(self, memory_budget: int = 1_000_000_000) -> ShardReplica:
        pool = await open_pool(self._dsn, max_size=4, acquire_timeout=1.0)
        self._pools.append(pool)
        return ShardReplica(
            Shard(self._bundle).generation,
            GalleryStore(pool),
            SnapshotStore(self.folder),
            ErasureStore(pool),
            f"replica-{len(self._pools)}",
            memory_budget,
        )

    def generation(self, publisher: str, part: Part = WHOLE) -> Generation:
        return Generation(publisher, part, self._bundle.version)

    def query(
        self, publisher: str, name: str = NAMES[0], version: int = 0, part: Part = WHOLE
    ) -> Query:
        picture = PICTURES[name]
        return Query(
            0,
            publisher,
            self._bundle.version,
            Channel.FINE,
            self._extractor.query(picture, Channel.FINE),
            photo_levels(picture),
            min_gallery_version=version,
            part=part,
        )

    async def close(self) -> None:
        for pool in self._pools:
            await pool.close()  # type: ignore[attr-defined]


@pytest_asyncio.fixture
async def gallery(
    store: GalleryStore,
    postgres_dsn: str,
    bundle: Bundle,
    extractor: FeatureExtractor,
    features: dict[str, ImageFeatures],
    tmp_path: Path,
) -> AsyncIterator[Gallery]:
    for publisher in ("acme", "other"):
        await store.create_publisher(publisher, publisher, 0.001)
    made = Gallery(store, postgres_dsn, bundle, extractor, features, tmp_path / "snapshots")
    yield made
    await made.close()


async def found(replica: ShardReplica, query: Query) -> SearchResult:
    (answer,) = await replica.search([query])
    assert isinstance(answer, SearchResult), answer
    return answer


def files(folder: Path) -> list[Path]:
    """The whole snapshots; one that is being written has its name later."""
    written = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in written if path.suffix != ".partial")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def saved(gallery: Gallery, replica: ShardReplica, count: int = 1) -> None:
    """Follows until there are so many snapshots."""
    following = asyncio.create_task(replica.follow())
    await until(lambda: len(files(gallery.folder)) >= count)
    following.cancel()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots are written at once."""
    monkeypatch.setattr("indexing.replica.SNAPSHOT_SECONDS", 0.05)


async def test_queries_of_several_galleries_are_each_answered_from_their_own(
    gallery: Gallery,
) -> None:
    await gallery.register("acme", NAMES[0])
    await gallery.register("other", NAMES[1])
    replica = await gallery.replica()
    first, second, missing, ahead = await replica.search(
        [
            gallery.query("acme"),
            gallery.query("other"),
            gallery.query("unknown"),
            gallery.query("acme", version=9),
        ]
    )
    assert isinstance(first, SearchResult)
    assert isinstance(second, SearchResult)
    assert (first.shortlist, second.shortlist) == ((NAMES[0],), (NAMES[1],))
    assert isinstance(missing, PublisherNotFound)
    assert isinstance(ahead, GalleryVersionNotReached)


async def test_each_part_holds_its_share_and_together_all(gallery: Gallery) -> None:
    for name in NAMES:
        await gallery.register("acme", name)
    replica = await gallery.replica()
    parts = [Part(number, 2) for number in range(2)]
    answers = [await found(replica, gallery.query("acme", part=part)) for part in parts]
    assert sum(answer.references for answer in answers) == len(NAMES)
    for part, answer in zip(parts, answers, strict=True):
        assert set(answer.shortlist) == {name for name in NAMES if part.holds(name)}
        assert answer.gallery_version == len(NAMES)


async def test_a_part_that_is_behind_the_others_catches_up(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexing.replica.WATERMARK_SECONDS", 0.05)

    async def silent(_: GalleryStore) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield None

    monkeypatch.setattr(GalleryStore, "changes", silent)
    await gallery.register("acme", NAMES[0])
    replica = await gallery.replica()
    behind, ahead = Part(0, 2), Part(1, 2)
    for part in (behind, ahead):
        await found(replica, gallery.query("acme", part=part))
    version = await gallery.register("acme", NAMES[1])
    await found(replica, gallery.query("acme", version=version, part=ahead))

    following = asyncio.create_task(replica.follow())
    await until(
        lambda: replica._loaded[gallery.generation("acme", behind)].gallery.version == version
    )
    following.cancel()


async def test_many_scans_of_a_cold_gallery_load_it_once(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gallery.register("acme", NAMES[0])
    replica = await gallery.replica()
    loads = []
    changes_since = GalleryStore.changes_since

    async def counted(store: GalleryStore, publisher: str, model: str, version: int) -> object:
        loads.append(publisher)
        return await changes_since(store, publisher, model, version)

    monkeypatch.setattr(GalleryStore, "changes_since", counted)
    await asyncio.gather(*(found(replica, gallery.query("acme")) for _ in range(20)))
    assert loads == ["acme"]


async def test_least_recently_used_galleries_make_room(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for publisher in ("acme", "other"):
        for name in NAMES:
            await gallery.register(publisher, name)
    roomy = await gallery.replica()
    await found(roomy, gallery.query("acme"))
    (one,) = (loaded.gallery.nbytes for loaded in roomy._loaded.values())

    replica = await gallery.replica(memory_budget=round(1.5 * one))
    for publisher in ("acme", "other", "acme"):
        answer = await found(replica, gallery.query(publisher))
        assert answer.references == len(NAMES)
        assert [place.publisher for place in replica._loaded] == [publisher]
        assert len(replica._locks) == 1


async def test_a_gallery_larger_than_the_budget_is_still_searched(gallery: Gallery) -> None:
    await gallery.register("acme", NAMES[0])
    replica = await gallery.replica(memory_budget=1)
    for _ in range(2):
        assert (await found(replica, gallery.query("acme"))).shortlist == (NAMES[0],)


@pytest.mark.usefixtures("eager")
async def test_a_new_replica_starts_from_the_snapshot_and_what_came_later(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES[:2]:
        await gallery.register("acme", name)
    first = await gallery.replica()
    await found(first, gallery.query("acme"))
    await saved(gallery, first)
    await gallery.register("acme", NAMES[2])

    asked = []
    changes_since = GalleryStore.changes_since

    async def told(store: GalleryStore, publisher: str, model: str, version: int) -> object:
        asked.append(version)
        return await changes_since(store, publisher, model, version)

    monkeypatch.setattr(GalleryStore, "changes_since", told)
    second = await gallery.replica()
    answer = await found(second, gallery.query("acme", NAMES[2]))
    assert (answer.gallery_version, answer.references) == (3, 3)
    assert answer.shortlist[0] == NAMES[2]
    assert asked == [2]


@pytest.mark.usefixtures("eager")
async def test_a_replica_goes_on_from_its_own_snapshot(gallery: Gallery) -> None:
    await gallery.register("acme", NAMES[0])
    replica = await gallery.replica()
    before = await found(replica, gallery.query("acme"))
    following = asyncio.create_task(replica.follow())
    await until(lambda: next(iter(replica._loaded.values())).saved)
    following.cancel()
    after = await found(replica, gallery.query("acme"))
    np.testing.assert_array_equal(
        after.candidates[0].evidence.geometry.quad, before.candidates[0].evidence.geometry.quad
    )
    version = await gallery.register("acme", NAMES[1])
    answer = await found(replica, gallery.query("acme", NAMES[1], version))
    assert (answer.references, answer.shortlist[0]) == (2, NAMES[1])


@pytest.mark.usefixtures("eager")
async def test_what_is_deleted_is_in_no_snapshot(gallery: Gallery) -> None:
    for name in NAMES[:2]:
        await gallery.register("acme", name)
    replica = await gallery.replica()
    await found(replica, gallery.query("acme"))
    await saved(gallery, replica)

    async with gallery.store._writing("acme") as connection:  # The deletion itself, by its rows.
        await connection.execute("delete from reference where id = %s", [NAMES[0]])
        await connection.execute("update publisher set gallery_version = 3 where id = 'acme'")
        await connection.execute(
            "insert into change (publisher_id, gallery_version, reference_id) values"
            " ('acme', 3, %s)",
            [NAMES[0]],
        )
    answer = await found(replica, gallery.query("acme", version=3))
    assert answer.shortlist == (NAMES[1],)
    assert files(gallery.folder) == []
    await saved(gallery, replica)
    read = SnapshotStore(gallery.folder).read(gallery.generation("acme"))
    assert read is not None
    assert read[1].segment.find(NAMES[0]) is None
    assert read[1].segment.find(NAMES[1]) is not None


@pytest.mark.usefixtures("eager")
async def test_a_damaged_snapshot_is_built_again(gallery: Gallery) -> None:
    await gallery.register("acme", NAMES[0])
    first = await gallery.replica()
    await found(first, gallery.query("acme"))
    await saved(gallery, first)
    (path,) = files(gallery.folder)
    damaged = path.read_bytes()[:-100]
    # The first replica has mapped the file: shortened in place, it would end that process.
    path.unlink()
    path.write_bytes(damaged)
    second = await gallery.replica()
    assert (await found(second, gallery.query("acme"))).shortlist == (NAMES[0],)


@pytest.mark.usefixtures("eager")
async def test_a_full_disk_costs_no_scan(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = asyncio.Event()

    def full(*_: object) -> None:
        tried.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SnapshotStore, "write", full)
    await gallery.register("acme", NAMES[0])
    replica = await gallery.replica()
    await found(replica, gallery.query("acme"))
    following = asyncio.create_task(replica.follow())
    await until(tried.is_set)
    assert (await found(replica, gallery.query("acme"))).shortlist == (NAMES[0],)
    assert not following.done()
    following.cancel()


async def test_warming_loads_what_is_named_and_no_other(gallery: Gallery) -> None:
    await gallery.register("acme", NAMES[0])
    replica = await gallery.replica()
    await replica.warm(
        [
            gallery.generation("acme"),
            gallery.generation("acme", NOBODY),
            gallery.generation("unknown"),
        ]
    )
    assert set(replica._loaded) == {gallery.generation("acme"), gallery.generation("acme", NOBODY)}


@pytest.mark.usefixtures("eager")
async def test_without_the_database_a_snapshot_still_answers(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gallery.register("acme", NAMES[0])
    first = await gallery.replica()
    await found(first, gallery.query("acme"))
    await saved(gallery, first)

    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(GalleryStore, "changes_since", away)
    second = await gallery.replica()
    assert (await found(second, gallery.query("acme"))).shortlist == (NAMES[0],)
    (newer, other) = await second.search([gallery.query("acme", version=2), gallery.query("other")])
    assert isinstance(newer, GalleryVersionNotReached)
    assert isinstance(other, DatabaseUnavailable)


async def test_a_token_of_a_publisher_created_again_is_not_met_by_the_gallery_of_the_deleted_one(
    gallery: Gallery,
) -> None:
    for name in NAMES[:2]:
        await gallery.register("acme", name)
    replica = await gallery.replica()
    assert (await found(replica, gallery.query("acme"))).references == 2
    await gallery.store.delete_publisher("acme")
    await gallery.store.create_publisher("acme", "Acme", 0.001)
    version = await gallery.register("acme", NAMES[2])
    answer = await found(replica, gallery.query("acme", NAMES[2], version))
    assert (answer.gallery_version, answer.shortlist) == (version, (NAMES[2],))
