"""Drives the rollout under way: backfill, comparison, and what is left when it has ended."""

import asyncio
from typing import Protocol

import structlog

from indexing.blobs import BlobStore
from indexing.errors import ImageLinkError
from indexing.gallery_backfill import BackfillStore
from indexing.gallery_models import ModelStore
from indexing.rollout import Rollout, RolloutState
from server.backfill import Backfill
from server.gate import Gate
from server.models import Model, Models, ServingFollower
from server.placement import PlacementFollower, Shards
from server.repeating import repeat

RETRY_SECONDS = 1.0
DRIVEN = frozenset({RolloutState.BACKFILLING, RolloutState.EVALUATING})

log = structlog.get_logger()


class Preparer:
    """Has the shards load galleries of a model version before scans ask for them."""

    def __init__(self, placed: PlacementFollower, shards: Shards) -> None:
        self._placed = placed
        self._shards = shards

    async def prepare(self, former: str, new: str) -> None:
        """Has every shard load, under the new version, what it has under the former one.

        Raises DatabaseUnavailable and ShardUnavailable.
        """
        placement = await self._placed.placement()
        await asyncio.gather(
            *(self._shards.prepare(shard, former, new) for shard in placement.shards)
        )


class RolloutDriver:
    """Takes a rollout from its start until publishers can be switched.

    All that it has done is in the database: where it is lost, another begins where it ended.
    """

    def __init__(
        self,
        store: ModelStore,
        images: BackfillStore,
        follower: ServingFollower,
        models: Models,
        blobs: BlobStore,
        gate: Gate,
        preparer: Preparer,
    ) -> None:
        self._store = store
        self._images = images
        self._follower = follower
        self._models = models
        self._blobs = blobs
        self._gate = gate
        self._preparer = preparer
        self._backfill: tuple[str, Backfill] | None = None

    async def follow(self) -> None:
        """Drives whatever rollout is under way, without end; one process at a time does."""
        while True:
            try:
                async with self._store.driving() as mine:
                    while mine and await self.step():
                        pass
            except (ImageLinkError, OSError) as error:
                log.info("rollout waits", why=repr(error))
            except Exception:
                # Whatever the blob store raises: the next round tries again.
                log.exception("rollout waits")
            await asyncio.sleep(RETRY_SECONDS)

    async def step(self) -> bool:
        """Does a part of what is to be done; False where there is nothing to do now."""
        rollout = (await self._follower.refresh()).rollout
        if rollout is None or rollout.state not in DRIVEN or rollout.paused:
            return False
        if rollout.state is RolloutState.BACKFILLING:
            await self._fill(rollout)
        else:
            await self._evaluate(rollout)
        return True

    async def _fill(self, rollout: Rollout) -> None:
        backfill = await self._backfill_of(rollout)
        if not await backfill.step(rollout.max_images_per_second):
            # Whoever wrote without the new version's features had begun before the rollout did,
            # and has ended: nothing lacks them any more.
            await self._store.evaluate(rollout.id)

    async def _backfill_of(self, rollout: Rollout) -> Backfill:
        if self._backfill is None or self._backfill[0] != rollout.id:
            # The versions of the rollout before go with its backfill, before others are loaded.
            self._backfill = None
            former, new = await self._both(rollout)
            made = Backfill(self._images, self._blobs, former.features, new.features, rollout)
            self._backfill = (rollout.id, made)
        return self._backfill[1]

    async def _evaluate(self, rollout: Rollout) -> None:
        former, new = await self._both(rollout)
        progress = await self._images.progress(rollout.id, rollout.model)
        # Before they are compared: the time that a load takes is nobody's fault.
        await self._preparer.prepare(rollout.former, rollout.model)
        report = await self._gate.compare(former, new, progress.unusable)
        await self._store.be_ready(rollout.id, report)

    async def _both(self, rollout: Rollout) -> tuple[Model, Model]:
        return await self._models.get(rollout.former), await self._models.get(rollout.model)


class Worker(Protocol):
    """The process in which a rollout is driven: beside the scanners, and behind them in priority."""

    async def start_worker(self) -> None:
        """Starts it where it does not run."""

    async def stop_worker(self) -> None:
        """Ends it where it runs."""


class RolloutSupervisor:
    """Has a worker while there is a rollout to drive, and nothing left of those that have ended."""

    def __init__(
        self, store: ModelStore, images: BackfillStore, follower: ServingFollower, worker: Worker
    ) -> None:
        self._store = store
        self._images = images
        self._follower = follower
        self._worker = worker
        # Without a change since this epoch there is nothing to end, and nothing to delete.
        self._settled: int | None = None

    async def follow(self) -> None:
        """Looks after rollouts, without end; any number of processes may do so."""
        await repeat("looking after rollouts", RETRY_SECONDS, self.step)

    async def step(self) -> None:
        """Does what is to be done now. Raises DatabaseUnavailable."""
        serving = self._follower.serving
        rollout = serving.rollout
        if rollout is not None and rollout.state in DRIVEN:
            await self._worker.start_worker()
        elif serving.epoch != self._settled:
            await self._worker.stop_worker()
            async with self._store.driving() as mine:
                if mine:
                    await self._delete_needless()
                    self._settled = serving.epoch

    async def _delete_needless(self) -> None:
        for version in await self._images.delete_needless():
            log.info("features deleted", version=version)
