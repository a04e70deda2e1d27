"""Moves galleries while scans go on: to shards that join, from those that drain, into parts."""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from indexing.errors import ImageLinkError
from indexing.gallery_placement import PlacementState, PlacementStore, target
from indexing.placement import Assignment, Placement, ShardState, ShardStatus, moves, parts_for
from server.placement import PlacementFollower, Placer, Shards
from server.repeating import repeat

STEP_SECONDS = 1.0
SPLIT_SECONDS = 30.0
# Until then a drained shard answers whoever has not heard that it is.
STOP_AFTER = timedelta(seconds=60)
WORK = "moving galleries"
MOVING = frozenset({ShardState.JOINING, ShardState.DRAINING})

log = structlog.get_logger()


class Rebalancer:
    """Brings shards that join or drain to their end, and splits publishers that outgrew a shard.

    Any number of processes may do so: one at a time works, and where it is lost another begins
    anew. Publishers with more than ``part_images`` images are split.
    """

    def __init__(
        self,
        store: PlacementStore,
        known: PlacementFollower,
        shards: Shards,
        placer: Placer,
        part_images: int,
    ) -> None:
        self._store = store
        self._known = known
        self._shards = shards
        self._placer = placer
        self._part_images = part_images
        self._stopped: frozenset[int] = frozenset()

    async def follow(self) -> None:
        """Moves what is to be moved, without end."""
        await asyncio.gather(
            repeat(WORK, STEP_SECONDS, self.settle), repeat(WORK, SPLIT_SECONDS, self.split)
        )

    async def settle(self) -> None:
        """Moves the galleries of shards that join or drain, and ends shards drained long ago.

        Raises DatabaseUnavailable and ShardUnavailable, after which it can be done again.
        """
        if self._pending(await self._known.state()):
            async with self._store.rebalancing() as mine:
                if mine:
                    await self._settle(await self._store.read())

    async def split(self) -> None:
        """Splits publishers into as many parts as their images and the shards call for.

        Raises DatabaseUnavailable and ShardUnavailable, after which it can be done again.
        """
        large = await self._store.large_image_counts(self._part_images)
        if large:
            async with self._store.rebalancing() as mine:
                state = await self._store.read()
                if mine and not any(shard.state in MOVING for shard in state.shards):
                    for publisher, images in large.items():
                        await self._split(state.placement, publisher, images)

    def _pending(self, state: PlacementState) -> list[ShardStatus]:
        drained = {each.number for each in state.shards if each.state is ShardState.DRAINED}
        self._stopped &= drained
        return [
            shard
            for shard in state.shards
            if shard.state in MOVING or (shard.number in drained and self._is_over(shard))
        ]

    def _is_over(self, shard: ShardStatus) -> bool:
        age = datetime.now(UTC) - shard.state_time
        return shard.number not in self._stopped and age > STOP_AFTER

    async def _settle(self, state: PlacementState) -> None:
        pending = self._pending(state)
        for shard in pending:
            if shard.state is ShardState.DRAINED:
                await self._shards.stop(shard.number)
                self._stopped |= {shard.number}
        ready = [each.number for each in pending if await self._is_ready(each)]
        if ready:
            publishers = await self._store.image_counts()
            await self._placer.warm(moves(state.placement, target(state, ready), publishers))
            await self._store.settle(ready)
            log.info("moved galleries", shards=ready)

    async def _is_ready(self, shard: ShardStatus) -> bool:
        if shard.state is ShardState.JOINING:
            try:
                await self._shards.start(shard.number)
            except ImageLinkError as error:
                # Others that move need not wait for it.
                log.warning("shard does not start", shard=shard.number, why=str(error))
                return False
        return shard.state in MOVING

    async def _split(self, placement: Placement, publisher: str, images: int) -> None:
        count = parts_for(images, self._part_images, len(placement.shards))
        parts = placement.split(publisher, count)

        def change(now: Assignment | None) -> Assignment | None:
            enough = now is not None and (now.pinned or len(now.shards) >= count)
            return now if enough or count == 1 else parts

        await self._placer.assign(publisher, change)
