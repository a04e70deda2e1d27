"""The placement in PostgreSQL: states of shards, pins, parts, and that changes are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from indexing.errors import (
    LastShard,
    PublisherNotFound,
    ShardHasPins,
    ShardNotActive,
    ShardNotFound,
)
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_placement import PlacementStore
from indexing.placement import Assignment, Part, ShardState
from tests.integration.references import a_reference


@pytest_asyncio.fixture
async def placements(postgres_dsn: str) -> AsyncIterator[PlacementStore]:
    pool = await open_pool(postgres_dsn, max_size=4)
    store = PlacementStore(pool)
    await store.open_shards(3)
    yield store
    await pool.close()


async def states(placements: PlacementStore) -> list[ShardState]:
    return [shard.state for shard in (await placements.read()).shards]


async def test_a_server_opens_the_shards_it_lacks_and_leaves_the_others(
    placements: PlacementStore,
) -> None:
    await placements.drain_shard(2)
    opened = await placements.open_shards(4)
    assert [shard.number for shard in opened] == [0, 1, 2, 3]
    assert await placements.open_shards(1) == opened
    assert await states(placements) == ["active", "active", "draining", "active"]


async def test_a_joining_shard_has_no_publisher_until_it_settles(
    placements: PlacementStore,
) -> None:
    added = await placements.add_shard()
    assert (added.number, added.state) == (3, ShardState.JOINING)
    assert (await placements.read()).placement.shards == (0, 1, 2)
    await placements.settle([3])
    assert (await placements.read()).placement.shards == (0, 1, 2, 3)


async def test_a_draining_shard_has_its_publishers_until_it_settles(
    placements: PlacementStore,
) -> None:
    assert (await placements.drain_shard(1)).state is ShardState.DRAINING
    assert (await placements.read()).placement.shards == (0, 1, 2)
    await placements.settle([1])
    assert (await placements.read()).placement.shards == (0, 2)
    assert await states(placements) == ["active", "drained", "active"]


async def test_only_named_shards_settle(placements: PlacementStore) -> None:
    await placements.add_shard()
    await placements.drain_shard(0)
    await placements.settle([0])
    assert await states(placements) == ["drained", "active", "active", "joining"]


async def test_draining_twice_changes_nothing(placements: PlacementStore) -> None:
    first = await placements.drain_shard(1)
    assert await placements.drain_shard(1) == first
    await placements.settle([1])
    assert (await placements.drain_shard(1)).state is ShardState.DRAINED


async def test_a_shard_that_has_not_joined_yet_is_drained_at_once(
    placements: PlacementStore,
) -> None:
    added = await placements.add_shard()
    assert (await placements.drain_shard(added.number)).state is ShardState.DRAINED


async def test_a_drain_can_be_taken_back(placements: PlacementStore) -> None:
    await placements.drain_shard(1)
    assert (await placements.undrain_shard(1)).state is ShardState.ACTIVE
    await placements.drain_shard(1)
    await placements.settle([1])
    assert (await placements.undrain_shard(1)).state is ShardState.JOINING


async def test_the_last_active_shard_cannot_be_drained(placements: PlacementStore) -> None:
    await placements.drain_shard(0)
    await placements.drain_shard(1)
    with pytest.raises(LastShard):
        await placements.drain_shard(2)


async def test_two_drains_at_once_leave_a_shard(placements: PlacementStore) -> None:
    await placements.drain_shard(0)
    outcomes = await asyncio.gather(
        placements.drain_shard(1), placements.drain_shard(2), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(LastShard) == 1


async def test_an_unknown_shard_is_not_found(placements: PlacementStore, acme: str) -> None:
    for call in (placements.drain_shard(9), placements.undrain_shard(9)):
        with pytest.raises(ShardNotFound):
            await call
    with pytest.raises(ShardNotFound):
        await placements.assign(acme, None, Assignment((9,), pinned=True))


async def test_a_shard_with_pins_is_not_drained_and_they_are_named(
    placements: PlacementStore, acme: str
) -> None:
    await placements.assign(acme, None, Assignment((1,), pinned=True))
    with pytest.raises(ShardHasPins) as caught:
        await placements.drain_shard(1)
    assert caught.value.details == {"shard": "1", "publishers": "acme"}


@pytest.mark.parametrize("joining", [True, False])
async def test_a_publisher_is_pinned_to_active_shards_only(
    placements: PlacementStore, acme: str, joining: bool
) -> None:
    shard = await (placements.add_shard() if joining else placements.drain_shard(1))
    with pytest.raises(ShardNotActive):
        await placements.assign(acme, None, Assignment((shard.number,), pinned=True))


async def test_a_pin_of_an_unknown_publisher_is_refused(placements: PlacementStore) -> None:
    with pytest.raises(PublisherNotFound):
        await placements.assign("nobody", None, Assignment((1,), pinned=True))


async def test_an_assignment_that_changed_meanwhile_is_kept(
    placements: PlacementStore, acme: str
) -> None:
    pinned = Assignment((1,), pinned=True)
    assert await placements.assign(acme, None, pinned)
    assert not await placements.assign(acme, None, Assignment((0, 2)))
    assert (await placements.read()).placement.assignments == {acme: pinned}
    assert await placements.assign(acme, pinned, None)
    assert (await placements.read()).placement.assignments == {}


async def test_parts_on_a_drained_shard_move_and_the_others_stay(
    placements: PlacementStore, acme: str
) -> None:
    await placements.assign(acme, None, Assignment((0, 1)))
    await placements.drain_shard(0)
    await placements.settle([0])
    locations = (await placements.read()).placement.locate(acme)
    assert [(each.shard, each.part) for each in locations] == [(2, Part(0, 2)), (1, Part(1, 2))]


async def test_a_deleted_publisher_leaves_no_assignment(
    placements: PlacementStore, store: GalleryStore, acme: str
) -> None:
    await placements.assign(acme, None, Assignment((0,), pinned=True))
    await store.delete_publisher(acme)
    assert (await placements.read()).placement.assignments == {}


async def test_images_are_counted(
    placements: PlacementStore, store: GalleryStore, acme: str
) -> None:
    await store.create_publisher("empty", "", 0.001)
    for number in range(3):
        await store.register(a_reference(f"reference-{number}"))
    assert await placements.image_counts() == {"acme": 3, "empty": 0}
    assert await placements.large_image_counts(2) == {"acme": 3}
    assert await placements.large_image_counts(3) == {}
    assert await placements.count_images("empty") == 0
    with pytest.raises(PublisherNotFound):
        await placements.count_images("nobody")


async def test_every_change_is_told(placements: PlacementStore, acme: str) -> None:
    async with aclosing(placements.changes()) as changes:
        await anext(changes)
        for change in (
            lambda: placements.assign(acme, None, Assignment((0,), pinned=True)),
            placements.add_shard,
            lambda: placements.drain_shard(1),
            lambda: placements.settle([1, 3]),
        ):
            await change()
            await asyncio.wait_for(anext(changes), 5)


async def test_one_process_at_a_time_moves_galleries(placements: PlacementStore) -> None:
    async with placements.rebalancing() as first, placements.rebalancing() as second:
        assert (first, second) == (True, False)
    async with placements.rebalancing() as third:
        assert third
