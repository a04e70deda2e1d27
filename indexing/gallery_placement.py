"""The placement in PostgreSQL: the shards and their states, pins and parts.

Every change locks the rows of all shards, so that one change sees the other, and is notified with
its commit. Every method raises DatabaseUnavailable where the database does not answer.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from indexing.errors import (
    LastShard,
    PublisherNotFound,
    ShardHasPins,
    ShardNotActive,
    ShardNotFound,
)
from indexing.gallery_statements import (
    EVERY_PUBLISHER,
    Row,
    fetch_all,
    fetch_count,
    fetch_one,
    lock_publisher,
    notifications,
    transaction,
)
from indexing.placement import Assignment, Placement, ShardState, ShardStatus
from indexing.queries import QUERIES

PLACED = frozenset({ShardState.ACTIVE, ShardState.DRAINING})
"""The states in which a shard has publishers."""

NAMED_PINS = 5
"""How many pinned publishers an error names."""


@dataclass(frozen=True, slots=True)
class PlacementState:
    """All shards by number, and the placement that follows, as of one moment."""

    shards: tuple[ShardStatus, ...]
    placement: Placement


class PlacementStore:
    """Which shards there are, and which publishers are assigned to some."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def read(self) -> PlacementState:
        """Return the present state."""
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["begin_snapshot"])
            return await _read(connection, "shards")

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever the placement may have changed, without end, and once it listens.

        Never raises DatabaseUnavailable. Keeps a connection to itself; close it with
        ``aclose`` to give that back.
        """
        async with aclosing(notifications(self._pool, "listen_placement")) as told:
            async for _ in told:
                yield

    async def open_shards(self, count: int) -> tuple[ShardStatus, ...]:
        """Have at least so many shards, for a server that starts, and return all."""
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["open_shards"], {"count": count})
            return (await _read(connection, "shards")).shards

    async def add_shard(self) -> ShardStatus:
        """Have one shard more, which joins, and return it."""
        async with self._changing() as (connection, _):
            row = await fetch_one(connection, "insert_shard")
            assert row is not None, "the insert returns its row"
            return _to_status(row)

    async def drain_shard(self, number: int) -> ShardStatus:
        """Begin to drain a shard, or leave it drained, and return it.

        Raises ShardNotFound, LastShard and ShardHasPins.
        """
        async with self._changing() as (connection, state):
            shard = _find(state, number)
            if shard.state is ShardState.JOINING:
                return await _set_state(connection, number, ShardState.DRAINED)
            if shard.state is not ShardState.ACTIVE:
                return shard
            others = {each.number for each in state.shards} - {number}
            if not _in_state(state, others, ShardState.ACTIVE):
                raise LastShard(shard=number)
            if pinned := state.placement.pinned_to(number):
                raise ShardHasPins(shard=number, publishers=_named(pinned))
            return await _set_state(connection, number, ShardState.DRAINING)

    async def undrain_shard(self, number: int) -> ShardStatus:
        """Take back that a shard was drained, and return it. Raises ShardNotFound."""
        async with self._changing() as (connection, state):
            shard = _find(state, number)
            if shard.state is ShardState.DRAINING:
                return await _set_state(connection, number, ShardState.ACTIVE)
            if shard.state is ShardState.DRAINED:
                return await _set_state(connection, number, ShardState.JOINING)
            return shard

    async def settle(self, shards: Collection[int]) -> None:
        """Give joining ones of these shards their publishers, and put those of draining elsewhere.

        Shards that are neither by now are left as they are.
        """
        async with self._changing() as (connection, state):
            after = target(state, shards)
            for publisher, assigned in state.placement.assignments.items():
                moved = list(after.assignments[publisher].shards)
                if moved != list(assigned.shards):
                    parameters = {"publisher": publisher, "shards": moved}
                    await connection.execute(QUERIES["move_placement"], parameters)
            for number in _in_state(state, shards, ShardState.JOINING):
                await _set_state(connection, number, ShardState.ACTIVE)
            for number in _in_state(state, shards, ShardState.DRAINING):
                await _set_state(connection, number, ShardState.DRAINED)

    async def assign(
        self, publisher: str, before: Assignment | None, after: Assignment | None
    ) -> bool:
        """Put a publisher on shards, or leave it to hashing, if it is assigned as ``before``.

        Return whether it was. Raises PublisherNotFound, ShardNotFound and ShardNotActive.
        """
        async with self._changing() as (connection, state):
            if after:
                check_active(state, after.shards)
            if state.placement.assignments.get(publisher) != before:
                return False
            # The publisher's row first, as its deletion takes the placement's after it.
            await lock_publisher(connection, publisher)
            await _assign(connection, publisher, after)
            return True

    async def image_counts(self) -> dict[str, int]:
        """Return how many images each publisher has."""
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            return dict(await fetch_all(connection, "image_counts"))

    async def large_image_counts(self, above: int) -> dict[str, int]:
        """Return how many images each publisher has that has more than so many."""
        async with transaction(self._pool, EVERY_PUBLISHER) as connection:
            return dict(await fetch_all(connection, "large_image_counts", above=above))

    async def count_images(self, publisher: str) -> int:
        """Return how many images a publisher has. Raises PublisherNotFound."""
        async with transaction(self._pool, publisher) as connection:
            if await fetch_one(connection, "get_publisher", id=publisher) is None:
                raise PublisherNotFound(publisher=publisher)
            return await fetch_count(connection, "count_images", publisher=publisher)

    @asynccontextmanager
    async def rebalancing(self) -> AsyncIterator[bool]:
        """Be the one that moves galleries, until the end of the block; or not: then False."""
        async with transaction(self._pool) as connection:
            row = await fetch_one(connection, "try_lock_rebalancing")
            yield row == (True,)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[tuple[AsyncConnection, PlacementState]]:
        async with transaction(self._pool) as connection:
            yield connection, await _read(connection, "lock_shards")
            await connection.execute(QUERIES["notify_placement"])


def check_active(state: PlacementState, shards: Sequence[int]) -> None:
    """Raises ShardNotFound or ShardNotActive where a shard cannot take a publisher."""
    for number in shards:
        shard = _find(state, number)
        if shard.state is not ShardState.ACTIVE:
            raise ShardNotActive(shard=number, state=shard.state)


def target(state: PlacementState, shards: Collection[int]) -> Placement:
    """The placement once those of these shards that join or drain have done so."""
    joined = _in_state(state, shards, ShardState.JOINING)
    return state.placement.changed(joined, _in_state(state, shards, ShardState.DRAINING))


def _in_state(state: PlacementState, shards: Collection[int], wanted: ShardState) -> list[int]:
    return [s.number for s in state.shards if s.number in shards and s.state is wanted]


def _find(state: PlacementState, number: int) -> ShardStatus:
    for shard in state.shards:
        if shard.number == number:
            return shard
    raise ShardNotFound(shard=number)


def _named(publishers: Sequence[str]) -> str:
    more = len(publishers) - NAMED_PINS
    return ", ".join(publishers[:NAMED_PINS]) + (f" and {more} more" if more > 0 else "")


def _to_status(row: Row) -> ShardStatus:
    number, state, state_time = row
    return ShardStatus(number, ShardState(state), state_time)


async def _read(connection: AsyncConnection, query: str) -> PlacementState:
    shards = tuple(_to_status(row) for row in await fetch_all(connection, query))
    assignments = {
        publisher: Assignment(tuple(assigned), pinned)
        for publisher, assigned, pinned in await fetch_all(connection, "placements")
    }
    placed = tuple(shard.number for shard in shards if shard.state in PLACED)
    return PlacementState(shards, Placement(placed, assignments))


async def _set_state(connection: AsyncConnection, number: int, state: ShardState) -> ShardStatus:
    row = await fetch_one(connection, "set_shard_state", number=number, state=state.value)
    if row is None:
        raise ShardNotFound(shard=number)
    return _to_status(row)


async def _assign(
    connection: AsyncConnection, publisher: str, assignment: Assignment | None
) -> None:
    if assignment is None:
        await connection.execute(QUERIES["delete_placement"], {"publisher": publisher})
        return
    parameters = {
        "publisher": publisher,
        "shards": list(assignment.shards),
        "pinned": assignment.pinned,
    }
    await connection.execute(QUERIES["set_placement"], parameters)
