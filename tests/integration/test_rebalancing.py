"""Moving galleries while scans go on: they are loaded first, and no more than must move."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta

import pytest
import pytest_asyncio

from indexing.errors import (
    DatabaseUnavailable,
    ImageLinkError,
    PublisherNotFound,
    ShardNotActive,
    ShardUnavailable,
)
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_placement import PlacementStore
from indexing.migrations import migrate
from indexing.placement import WHOLE, Assignment, Generation, Location, Part, ShardState
from indexing.search import Query, SearchResult
from server import rebalancing
from server.placement import PlacementFollower, Placer
from server.rebalancing import Rebalancer
from tests.conftest import Postgres
from tests.integration.references import a_reference

PUBLISHERS = [f"publisher-{number}" for number in range(30)]
PART_IMAGES = 4


class FakeShards:
    """Notes what is asked of shards; those in ``down`` do not answer."""

    def __init__(self) -> None:
        self.warmed: list[tuple[int, str, Part]] = []
        self.running: set[int] = set()
        self.down: set[int] = set()

    async def search(
        self, shard: int, queries: Sequence[Query]
    ) -> list[SearchResult | ImageLinkError]:
        raise NotImplementedError

    async def warm(self, shard: int, galleries: Sequence[Generation]) -> None:
        if shard in self.down:
            raise ShardUnavailable(shard=shard)
        self.warmed += [(shard, publisher, part) for publisher, part, _ in galleries]

    async def prepare(self, shard: int, former: str, new: str) -> None:
        raise NotImplementedError

    async def start(self, shard: int) -> None:
        if shard in self.down:
            raise ShardUnavailable(shard=shard)
        self.running.add(shard)

    async def stop(self, shard: int) -> None:
        self.running.discard(shard)


class Moving:
    """A rebalancer and a placer of three shards with thirty publishers."""

    def __init__(self, placements: PlacementStore) -> None:
        self.store = placements
        self.shards = FakeShards()
        self.placer = Placer(placements, self.shards, lambda _: "model-1")
        self.follower = PlacementFollower(placements)
        self.rebalancer = Rebalancer(
            placements, self.follower, self.shards, self.placer, PART_IMAGES
        )

    async def settle(self) -> None:
        self.rebalancer = Rebalancer(
            self.store, PlacementFollower(self.store), self.shards, self.placer, PART_IMAGES
        )
        await self.rebalancer.settle()

    async def shard_of(self, publisher: str) -> int:
        (location,) = (await self.store.read()).placement.locate(publisher)
        return location.shard

    async def shards_of_all(self) -> dict[str, int]:
        return {publisher: await self.shard_of(publisher) for publisher in PUBLISHERS}


@pytest_asyncio.fixture
async def moving(postgres_dsn: str, store: GalleryStore) -> AsyncIterator[Moving]:
    for publisher in PUBLISHERS:
        await store.create_publisher(publisher, "", 0.001)
    pool = await open_pool(postgres_dsn, max_size=6)
    placements = PlacementStore(pool)
    await placements.open_shards(3)
    yield Moving(placements)
    await pool.close()


async def fill(store: GalleryStore, publisher: str, images: int) -> None:
    for number in range(images):
        await store.register(a_reference(f"reference-{number}", publisher))


async def known(follower: PlacementFollower, shards: tuple[int, ...], seconds: float) -> None:
    """Waits until the follower knows just these shards to have publishers."""
    async with asyncio.timeout(seconds):
        while True:
            if (await follower.placement()).shards == shards:
                return
            await asyncio.sleep(0.02)


async def drained(store: PlacementStore, shard: int) -> None:
    """Drains a shard as soon as the database is back."""
    async with asyncio.timeout(20):
        while True:
            with suppress(DatabaseUnavailable):
                await store.drain_shard(shard)
                return await store.settle([shard])
            await asyncio.sleep(0.1)


async def test_a_new_shard_starts_and_loads_just_what_moves_to_it(moving: Moving) -> None:
    before = await moving.shards_of_all()
    await moving.store.add_shard()
    await moving.settle()
    after = await moving.shards_of_all()
    moved = [publisher for publisher in PUBLISHERS if before[publisher] != after[publisher]]
    assert moved
    assert moving.shards.running == {3}
    assert sorted(moving.shards.warmed) == [(3, publisher, WHOLE) for publisher in sorted(moved)]


async def test_a_drained_shard_s_galleries_are_loaded_elsewhere(moving: Moving) -> None:
    before = await moving.shards_of_all()
    await moving.store.drain_shard(0)
    await moving.settle()
    after = await moving.shards_of_all()
    leaving = [publisher for publisher in PUBLISHERS if before[publisher] == 0]
    assert leaving
    assert [
        publisher for publisher in PUBLISHERS if before[publisher] != after[publisher]
    ] == leaving
    assert sorted(moving.shards.warmed) == sorted((after[each], each, WHOLE) for each in leaving)


async def test_galleries_move_only_once_they_are_loaded(moving: Moving) -> None:
    before = await moving.shards_of_all()
    await moving.store.drain_shard(0)
    moving.shards.down = {1}
    with pytest.raises(ShardUnavailable):
        await moving.settle()
    assert await moving.shards_of_all() == before
    moving.shards.down = set()
    await moving.settle()
    assert 0 not in (await moving.shards_of_all()).values()


async def test_a_shard_that_does_not_start_keeps_no_other_from_draining(moving: Moving) -> None:
    await moving.store.add_shard()
    await moving.store.drain_shard(0)
    moving.shards.down = {3}
    await moving.settle()
    states = [shard.state for shard in (await moving.store.read()).shards]
    assert states == ["drained", "active", "active", "joining"]


async def test_a_drained_shard_ends_after_a_while(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.shards.running = {0, 1, 2}
    await moving.store.drain_shard(0)
    await moving.settle()
    await moving.settle()
    assert moving.shards.running == {0, 1, 2}
    monkeypatch.setattr(rebalancing, "STOP_AFTER", timedelta(0))
    await moving.settle()
    assert moving.shards.running == {1, 2}


async def test_a_shard_that_ended_starts_when_its_drain_is_taken_back(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebalancing, "STOP_AFTER", timedelta(0))
    before = await moving.shards_of_all()
    await moving.store.drain_shard(0)
    await moving.settle()
    await moving.settle()
    await moving.store.undrain_shard(0)
    await moving.settle()
    assert 0 in moving.shards.running
    assert await moving.shards_of_all() == before


async def test_a_large_publisher_is_split_and_its_parts_loaded_first(
    moving: Moving, store: GalleryStore
) -> None:
    await fill(store, "publisher-7", PART_IMAGES + 1)
    await fill(store, "publisher-8", PART_IMAGES)
    await moving.rebalancer.split()
    placement = (await moving.store.read()).placement
    locations = placement.locate("publisher-7")
    assert [location.part for location in locations] == [Part(0, 2), Part(1, 2)]
    assert len({location.shard for location in locations}) == 2
    assert sorted(moving.shards.warmed) == sorted(
        (location.shard, "publisher-7", location.part) for location in locations
    )
    assert placement.assignments.keys() == {"publisher-7"}


async def test_a_split_publisher_stays_as_it_is_until_it_outgrows_its_parts(
    moving: Moving, store: GalleryStore
) -> None:
    await moving.store.open_shards(4)
    await fill(store, "publisher-7", 2 * PART_IMAGES)
    await moving.rebalancer.split()
    first = (await moving.store.read()).placement.locate("publisher-7")
    moving.shards.warmed.clear()
    await moving.rebalancer.split()
    assert moving.shards.warmed == []
    await store.register(a_reference("one-more", "publisher-7"))
    await moving.rebalancer.split()
    assert len(first) == 2
    assert len((await moving.store.read()).placement.locate("publisher-7")) == 4


async def test_a_pinned_publisher_is_never_split(moving: Moving, store: GalleryStore) -> None:
    await fill(store, "publisher-7", 3 * PART_IMAGES)
    await moving.placer.pin("publisher-7", 1)
    await moving.rebalancer.split()
    placed = await moving.placer.locate("publisher-7")
    assert (placed.pinned, placed.locations) == (True, (Location(1, WHOLE),))
    assert placed.images == 3 * PART_IMAGES


async def test_a_pin_loads_the_gallery_first_and_an_unpin_takes_it_back(moving: Moving) -> None:
    home = await moving.shard_of("publisher-7")
    other = (home + 1) % 3
    pinned = await moving.placer.pin("publisher-7", other)
    assert (pinned.pinned, pinned.locations) == (True, (Location(other, WHOLE),))
    assert moving.shards.warmed == [(other, "publisher-7", WHOLE)]
    unpinned = await moving.placer.unpin("publisher-7")
    assert (unpinned.pinned, unpinned.locations) == (False, (Location(home, WHOLE),))
    assert moving.shards.warmed[1:] == [(home, "publisher-7", WHOLE)]
    assert await moving.placer.unpin("publisher-7") == unpinned


async def test_a_pin_where_the_publisher_lives_loads_nothing(moving: Moving) -> None:
    home = await moving.shard_of("publisher-7")
    assert (await moving.placer.pin("publisher-7", home)).pinned
    assert moving.shards.warmed == []


async def test_a_pin_to_a_shard_that_does_not_answer_changes_nothing(moving: Moving) -> None:
    home = await moving.shard_of("publisher-7")
    moving.shards.down = {(home + 1) % 3}
    with pytest.raises(ShardUnavailable):
        await moving.placer.pin("publisher-7", (home + 1) % 3)
    assert not (await moving.placer.locate("publisher-7")).pinned


async def test_a_refused_pin_loads_nothing(moving: Moving) -> None:
    await moving.store.drain_shard(1)
    with pytest.raises(ShardNotActive):
        await moving.placer.pin("publisher-7", 1)
    with pytest.raises(PublisherNotFound):
        await moving.placer.pin("nobody", 0)
    assert moving.shards.warmed == []


async def test_of_two_pins_at_once_the_last_holds(moving: Moving) -> None:
    await asyncio.gather(*(moving.placer.pin("publisher-7", shard) for shard in (0, 1, 2)))
    placed = await moving.placer.locate("publisher-7")
    assert placed.pinned
    assert len(placed.locations) == 1


async def test_an_unpin_leaves_a_publisher_in_parts_as_it_is(moving: Moving) -> None:
    await moving.store.assign("publisher-7", None, Assignment((0, 1)))
    assert len((await moving.placer.unpin("publisher-7")).locations) == 2


async def test_shards_are_listed_with_what_is_placed_on_them(
    moving: Moving, store: GalleryStore
) -> None:
    await fill(store, "publisher-7", 3)
    home = await moving.shard_of("publisher-7")
    await moving.store.add_shard()
    listed = await moving.placer.list_shards()
    assert [shard.status.number for shard in listed] == [0, 1, 2, 3]
    assert [shard.load.images for shard in listed] == [3 * (n == home) for n in range(4)]
    assert sum(shard.load.publishers for shard in listed) == len(PUBLISHERS)
    assert listed[3].status.state is ShardState.JOINING
    assert listed[3].load.publishers == 0


async def test_a_change_is_known_within_a_second_or_two(moving: Moving) -> None:
    following = asyncio.create_task(moving.follower.follow())
    try:
        assert (await moving.follower.placement()).shards == (0, 1, 2)
        await asyncio.sleep(0.5)
        await moving.store.open_shards(1)
        await moving.store.drain_shard(2)
        await moving.store.settle([2])
        await known(moving.follower, (0, 1), seconds=2)
    finally:
        following.cancel()


async def test_the_placement_stays_known_while_the_database_is_away(
    own_postgres: Postgres,
) -> None:
    dsn = own_postgres.create_database()
    await migrate(dsn)
    pool = await open_pool(dsn, max_size=4, acquire_timeout=1)
    store = PlacementStore(pool)
    await store.open_shards(2)
    follower = PlacementFollower(store)
    following = asyncio.create_task(follower.follow())
    try:
        before = await follower.placement()
        own_postgres.stop()
        await asyncio.sleep(3)
        assert await follower.placement() == before
        with pytest.raises(DatabaseUnavailable):
            await PlacementFollower(store).placement()
        own_postgres.start()
        await drained(store, 1)
        await known(follower, (0,), seconds=5)
    finally:
        following.cancel()
        await pool.close()
