"""How scans go: counted for the watch over a rollout, and a share of them asked twice."""

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import structlog

from indexing.errors import DatabaseUnavailable, ImageLinkError
from indexing.gallery_models import ModelStore
from indexing.gallery_watch import ScanCountStore
from indexing.recognition import Photo, Recognition
from indexing.reference import Publisher
from indexing.rollout import (
    SWITCHABLE,
    SWITCHED,
    Rollout,
    RolloutState,
    ScanRates,
    Serving,
    ShadowAgreement,
    decline,
)
from server.keeping import Keeper
from server.models import Models, ServingFollower
from server.scanning import Asked, Scan, ShardSearch, recognise_together

FLUSH_SECONDS = 5.0
BASE = timedelta(hours=1)

log = structlog.get_logger()


class ScanMonitor:
    """Counts the scans of this process by publisher and model version."""

    def __init__(self, counts: ScanCountStore) -> None:
        self._counts = counts
        self._seen: defaultdict[tuple[str, str], ScanRates] = defaultdict(ScanRates)

    def note(self, photo: Photo, found: Recognition, seconds: float) -> None:
        """Counts a scan that was answered."""
        key = (photo.publisher, found.model_version)
        so_far = self._seen[key]
        self._seen[key] = ScanRates(
            so_far.scans + 1, so_far.matches + bool(found.matches), so_far.seconds + seconds
        )

    async def flush(self) -> None:
        """Adds what was counted to the counts of all. Raises DatabaseUnavailable."""
        seen, self._seen = self._seen, defaultdict(ScanRates)
        if seen:
            await self._counts.add(seen)


class Shadow:
    """Has the new version of a rollout answer a share of the scans that the former one answered.

    One at a time, and after the answer has gone out: a scan that comes meanwhile is left out.
    """

    def __init__(
        self,
        models: Models,
        follower: ServingFollower,
        search: ShardSearch,
        counts: ScanCountStore,
    ) -> None:
        self._models = models
        self._follower = follower
        self._search = search
        self._counts = counts
        self._seen: dict[str, ShadowAgreement] = {}
        self._running: asyncio.Task[None] | None = None

    def note(self, photo: Photo, found: Recognition) -> None:
        """Perhaps has the new version answer a scan too."""
        rollout = self._follower.serving.rollout
        if rollout is None or rollout.state not in SWITCHABLE:
            return
        idle = self._running is None or self._running.done()
        if (
            idle
            and found.model_version == rollout.former
            and random.random() < rollout.shadow_share
        ):
            self._running = asyncio.create_task(self._compare(rollout, photo, found))

    async def _compare(self, rollout: Rollout, photo: Photo, found: Recognition) -> None:
        with suppress(ImageLinkError):
            model = await self._models.get(rollout.model)
            # Alone: the batches of scans are not to wait for it.
            (other,) = await recognise_together([Asked(model.recogniser, photo)], self._search)
            if isinstance(other, Recognition):
                so_far = self._seen.get(rollout.id, ShadowAgreement())
                self._seen[rollout.id] = _with(so_far, found, other)

    async def flush(self) -> None:
        """Adds what was compared to the counts of all. Raises DatabaseUnavailable."""
        seen, self._seen = self._seen, {}
        for rollout, agreement in seen.items():
            await self._counts.add_shadows(rollout, agreement)


class Watch:
    """Rolls back by itself what made scans worse."""

    def __init__(self, store: ModelStore, counts: ScanCountStore) -> None:
        self._store = store
        self._counts = counts

    async def rates(self, serving: Serving, rollout: Rollout) -> tuple[ScanRates, ScanRates]:
        """How scans of the switched publishers went in the hour before the switch, and since.

        Raises DatabaseUnavailable.
        """
        if rollout.switch_time is None or rollout.state not in SWITCHED:
            return ScanRates(), ScanRates()
        publishers = None
        if rollout.state is RolloutState.CANARY:
            publishers = [name for name, v in serving.publishers.items() if v == rollout.model]
        switched = rollout.switch_time
        before = await self._counts.rates(rollout.former, switched - BASE, switched, publishers)
        later = switched + timedelta(days=1)
        return before, await self._counts.rates(rollout.model, switched, later, publishers)

    async def step(self, serving: Serving) -> None:
        """Rolls the rollout under way back where scans became worse. Raises DatabaseUnavailable."""
        rollout = serving.rollout
        if rollout is None or rollout.state not in SWITCHED:
            return
        worse = decline(*await self.rates(serving, rollout))
        if worse is not None:
            log.error("rolling back", rollout=rollout.id, why=worse)
            with suppress(ImageLinkError):
                await self._store.roll_back(rollout.id, f"Rolled back by the watch. {worse}")


class Monitoring:
    """What is told of each scan, and what follows from it every few seconds."""

    def __init__(
        self,
        monitor: ScanMonitor,
        shadow: Shadow,
        keeper: Keeper,
        watch: Watch,
        follower: ServingFollower,
    ) -> None:
        self._monitor = monitor
        self._shadow = shadow
        self._keeper = keeper
        self._watch = watch
        self._follower = follower

    def note(self, publisher: Publisher, scan: Scan, seconds: float) -> None:
        """Takes note of a scan that was answered."""
        self._monitor.note(scan.photo, scan.recognition, seconds)
        self._shadow.note(scan.photo, scan.recognition)
        self._keeper.note(publisher, scan)

    async def follow(self) -> None:
        """Keeps the counts and the watch, without end."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            with suppress(DatabaseUnavailable):
                await self._monitor.flush()
                await self._shadow.flush()
                await self._watch.step(self._follower.serving)


def _with(so_far: ShadowAgreement, former: Recognition, new: Recognition) -> ShadowAgreement:
    found = [{match.candidate.reference for match in each.matches} for each in (former, new)]
    return replace(
        so_far,
        scans=so_far.scans + 1,
        agreed=so_far.agreed + (found[0] == found[1]),
        former_only=so_far.former_only + (bool(found[0]) and not found[1]),
        new_only=so_far.new_only + (bool(found[1]) and not found[0]),
    )
