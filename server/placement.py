"""Where galleries live, as this process knows it, and the operator's changes of that."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from indexing.errors import DatabaseUnavailable, ImageLinkError
from indexing.gallery_placement import PlacementState, PlacementStore, check_active
from indexing.placement import (
    Assignment,
    Generation,
    Load,
    Location,
    Placement,
    ShardStatus,
    loads,
    moves,
)
from indexing.search import Query, SearchResult

COMPARE_SECONDS = 2.0
# Galleries that one call has a shard load: many calls in a row leave room for scans in between.
WARM_BATCH = 16


class Shards(Protocol):
    """The processes of the shards."""

    async def search(
        self, shard: int, queries: Sequence[Query]
    ) -> list[SearchResult | ImageLinkError]:
        """Answers queries from one shard."""

    async def warm(self, shard: int, galleries: Sequence[Generation]) -> None:
        """Has every replica of a shard load galleries. Raises ShardUnavailable."""

    async def prepare(self, shard: int, former: str, new: str) -> None:
        """Has every replica of a shard load what it has of one model version under another.

        Raises ShardUnavailable.
        """

    async def start(self, shard: int) -> None:
        """Starts a shard's processes where they do not run. Raises ShardUnavailable."""

    async def stop(self, shard: int) -> None:
        """Ends a shard's processes where they run."""


class PlacementFollower:
    """The placement as it was a moment ago.

    Notifications tell of changes; reading it every two seconds is the net under them.
    """

    def __init__(self, store: PlacementStore) -> None:
        self._store = store
        self._state: PlacementState | None = None

    async def state(self) -> PlacementState:
        """The shards and the placement. Raises DatabaseUnavailable where never read before."""
        return self._state or await self._read()

    async def placement(self) -> Placement:
        """The placement. Raises DatabaseUnavailable where it was never read before."""
        return (await self.state()).placement

    async def follow(self) -> None:
        """Keeps up with the changes, without end."""
        await asyncio.gather(self._follow_notifications(), self._follow_clock())

    async def _follow_notifications(self) -> None:
        async for _ in self._store.changes():
            with suppress(DatabaseUnavailable):
                await self._read()

    async def _follow_clock(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            with suppress(DatabaseUnavailable):
                await self._read()

    async def _read(self) -> PlacementState:
        self._state = await self._store.read()
        return self._state


@dataclass(frozen=True, slots=True)
class PublisherPlacement:
    """Where a publisher's gallery lives, and how many images it has."""

    publisher: str
    pinned: bool
    locations: tuple[Location, ...]
    images: int


@dataclass(frozen=True, slots=True)
class PlacedShard:
    """A shard, and what is placed on it."""

    status: ShardStatus
    load: Load


class Placer:
    """Says where galleries live, and puts publishers elsewhere.

    A gallery is loaded in its new place first, under the model version that serves its publisher;
    then one change in the database has all scans go there.
    """

    def __init__(
        self, store: PlacementStore, shards: Shards, model_version: Callable[[str], str]
    ) -> None:
        self._store = store
        self._shards = shards
        self._model_version = model_version

    async def list_shards(self) -> list[PlacedShard]:
        """All shards by number."""
        state = await self._store.read()
        return await self._placed(state.shards)

    async def add_shard(self) -> PlacedShard:
        """Has one shard more, which joins."""
        return (await self._placed([await self._store.add_shard()]))[0]

    async def drain_shard(self, shard: int) -> PlacedShard:
        """Begins to drain a shard. Raises ShardNotFound, LastShard and ShardHasPins."""
        return (await self._placed([await self._store.drain_shard(shard)]))[0]

    async def undrain_shard(self, shard: int) -> PlacedShard:
        """Takes back that a shard was drained. Raises ShardNotFound."""
        return (await self._placed([await self._store.undrain_shard(shard)]))[0]

    async def locate(self, publisher: str) -> PublisherPlacement:
        """Where a publisher's gallery lives. Raises PublisherNotFound."""
        images = await self._store.count_images(publisher)
        placement = (await self._store.read()).placement
        assigned = placement.assignments.get(publisher)
        pinned = assigned is not None and assigned.pinned
        return PublisherPlacement(publisher, pinned, placement.locate(publisher), images)

    async def pin(self, publisher: str, shard: int) -> PublisherPlacement:
        """Puts a publisher's whole gallery on a shard.

        Raises PublisherNotFound, ShardNotFound, ShardNotActive and ShardUnavailable.
        """
        await self._store.count_images(publisher)
        await self.assign(publisher, lambda _: Assignment((shard,), pinned=True))
        return await self.locate(publisher)

    async def unpin(self, publisher: str) -> PublisherPlacement:
        """Leaves a pinned publisher to hashing. Raises PublisherNotFound and ShardUnavailable."""
        await self.assign(publisher, lambda now: None if now is None or now.pinned else now)
        return await self.locate(publisher)

    async def assign(
        self, publisher: str, change: Callable[[Assignment | None], Assignment | None]
    ) -> None:
        """Changes which shards a publisher is put on, once they have loaded its gallery.

        Begins anew where somebody else changed that meanwhile. Raises PublisherNotFound,
        ShardNotFound, ShardNotActive and ShardUnavailable.
        """
        done = False
        while not done:
            state = await self._store.read()
            before = state.placement.assignments.get(publisher)
            after = change(before)
            if after is not None:
                check_active(state, after.shards)
            placement = state.placement.with_assignment(publisher, after)
            await self.warm(moves(state.placement, placement, [publisher]))
            done = after == before or await self._store.assign(publisher, before, after)

    async def warm(self, moved: Iterable[tuple[str, Location]]) -> None:
        """Has galleries loaded where they will live. Raises ShardUnavailable."""
        by_shard: dict[int, list[Generation]] = {}
        for publisher, location in moved:
            version = self._model_version(publisher)
            generation = Generation(publisher, location.part, version)
            by_shard.setdefault(location.shard, []).append(generation)
        await asyncio.gather(*(self._warm(*each) for each in by_shard.items()))

    async def _warm(self, shard: int, galleries: Sequence[Generation]) -> None:
        for start in range(0, len(galleries), WARM_BATCH):
            await self._shards.warm(shard, galleries[start : start + WARM_BATCH])

    async def _placed(self, shards: Sequence[ShardStatus]) -> list[PlacedShard]:
        placement = (await self._store.read()).placement
        placed = loads(placement, await self._store.image_counts())
        return [PlacedShard(each, placed.get(each.number, Load(0, 0))) for each in shards]
