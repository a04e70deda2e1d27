"""What an operator does with model versions: register, roll out, look, switch, roll back."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from indexing.bundle import Manifest, load_bundle
from indexing.bundle_store import FILES, BundleStore
from indexing.errors import BundleInvalid, ModelTooLarge
from indexing.gallery_backfill import BackfillStore
from indexing.gallery_models import ModelStore, StoredModel
from indexing.gallery_watch import ScanCountStore
from indexing.gate import GateReport
from indexing.rollout import (
    SWITCHABLE,
    BackfillProgress,
    Rollout,
    ScanRates,
    Serving,
    ShadowAgreement,
)
from server.bundle_check import check_bundle
from server.models import model_memory_mb
from server.monitoring import Watch
from server.rollout_driver import Preparer

MAX_BUNDLE_BYTES = 2**30
SENT = "that was sent"


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as it stands: its progress, and what live scans say.

    ``publishers`` counts those that the new version serves.
    """

    rollout: Rollout
    progress: BackfillProgress
    publishers: int
    shadow: ShadowAgreement
    rates: ScanRates
    former_rates: ScanRates


class ModelOperator:
    """Registers model versions and rolls them out.

    A process may hold model versions of ``memory_mb`` megabytes; 0 is no limit.
    """

    def __init__(
        self,
        store: ModelStore,
        bundles: BundleStore,
        images: BackfillStore,
        counts: ScanCountStore,
        watch: Watch,
        preparer: Preparer,
        memory_mb: int,
    ) -> None:
        self._store = store
        self._bundles = bundles
        self._images = images
        self._counts = counts
        self._watch = watch
        self._preparer = preparer
        self._memory_mb = memory_mb
        # One after another, as a check loads the whole model, beside those that serve.
        self._checking = asyncio.Lock()

    async def register(self, pieces: AsyncIterator[tuple[str, bytes]]) -> StoredModel:
        """Registers the bundle whose files come in pieces, each with its file's name.

        Raises BundleInvalid and ModelTooLarge; nothing is kept then.
        """
        with tempfile.TemporaryDirectory() as draft:
            folder = Path(draft)
            size = await _received(folder, pieces)
            async with self._checking:
                await self._check_memory(size)
                version, manifest = await asyncio.to_thread(_verified, folder)
            await self._bundles.put(version, folder)
            return await self._store.register(version, manifest, size)

    async def model(self, version: str) -> StoredModel:
        """A model version. Raises ModelNotFound."""
        return await self._store.model(version)

    async def models(self) -> list[StoredModel]:
        """All model versions, the newest first."""
        return await self._store.models()

    async def delete(self, version: str) -> None:
        """Deletes a version with all that was made by it. Raises ModelNotFound and ModelInUse."""
        await self._store.check_unused(version)
        await self._images.delete(version)
        await self._store.delete_model(version)
        await self._bundles.delete(version)

    async def start(
        self, version: str, max_images_per_second: float, shadow_share: float
    ) -> RolloutView:
        """Begins a rollout. Raises ModelNotFound, ModelInUse, RolloutUnderWay and ModelTooLarge."""
        await self._check_memory((await self._store.model(version)).size, version)
        return await self._view(
            await self._store.start(version, max_images_per_second, shadow_share)
        )

    async def rollout(self, rollout: str) -> RolloutView:
        """A rollout as it stands. Raises RolloutNotFound."""
        return await self._view(await self._store.rollout(rollout))

    async def rollouts(self) -> list[RolloutView]:
        """All rollouts, the latest first."""
        return [await self._view(each) for each in await self._store.rollouts()]

    async def update(
        self,
        rollout: str,
        *,
        paused: bool | None,
        max_images_per_second: float | None,
        shadow_share: float | None,
    ) -> RolloutView:
        """Changes what is not None. Raises RolloutNotFound and RolloutStateInvalid."""
        return await self._view(
            await self._store.update(
                rollout,
                paused=paused,
                max_images_per_second=max_images_per_second,
                shadow_share=shadow_share,
            )
        )

    async def preview(self, rollout: str) -> tuple[GateReport, datetime]:
        """How the versions compare, and when that was. Raises RolloutNotFound, RolloutStateInvalid."""
        return await self._store.gate(rollout)

    async def activate(
        self, rollout: str, publishers: Sequence[str], percent: float, force: bool
    ) -> RolloutView:
        """Switches publishers, once the shards have their galleries under the new version.

        Raises RolloutNotFound, RolloutStateInvalid, GateFailed, PublisherNotFound and
        ShardUnavailable.
        """
        found = await self._store.rollout(rollout)
        if found.state in SWITCHABLE:
            await self._preparer.prepare(found.former, found.model)
        return await self._view(await self._store.activate(rollout, publishers, percent, force))

    async def roll_back(self, rollout: str) -> RolloutView:
        """Switches all publishers back. Raises RolloutNotFound and RolloutStateInvalid."""
        return await self._view(
            await self._store.roll_back(rollout, "Rolled back by the operator.")
        )

    async def end(self, rollout: str) -> RolloutView:
        """Completes or cancels a rollout. Raises RolloutNotFound and RolloutStateInvalid."""
        return await self._view(await self._store.end(rollout))

    async def _check_memory(self, size: int, version: str | None = None) -> None:
        """Raises ModelTooLarge where a process has no room for a bundle beside what it needs."""
        others = (await self._store.serving()).needed - {version}
        sizes = [each.size for each in await self._store.models() if each.version in others]
        needed = sum(map(model_memory_mb, [*sizes, size]))
        if needed > self._memory_mb > 0:
            raise ModelTooLarge(needed=needed, limit=self._memory_mb)

    async def _view(self, rollout: Rollout) -> RolloutView:
        serving = await self._store.serving()
        before, since = await self._watch.rates(serving, rollout)
        return RolloutView(
            rollout,
            await self._images.progress(rollout.id, rollout.model),
            await self._served(serving, rollout),
            await self._counts.shadows(rollout.id),
            since,
            before,
        )

    async def _served(self, serving: Serving, rollout: Rollout) -> int:
        if serving.default == rollout.model:
            return await self._store.count_publishers()
        return sum(version == rollout.model for version in serving.publishers.values())


async def _received(folder: Path, pieces: AsyncIterator[tuple[str, bytes]]) -> int:
    """Writes the pieces into their files; returns how many bytes they have."""
    size = 0
    async for name, data in pieces:
        size += len(data)
        if size > MAX_BUNDLE_BYTES:
            raise BundleInvalid(path=SENT, problem="It has more than 1 GiB.")
        with (folder / name).open("ab") as file:
            file.write(data)
    for name in FILES:
        if not (folder / name).exists():
            raise BundleInvalid(path=SENT, problem=f"It has no {name}.")
    return size


def _verified(folder: Path) -> tuple[str, Manifest]:
    """The version and the manifest of the bundle in a folder. Raises BundleInvalid."""
    try:
        bundle = load_bundle(folder)
        check_bundle(folder)
    except BundleInvalid as error:
        raise BundleInvalid(path=SENT, problem=error.details["problem"]) from error
    return bundle.version, bundle.manifest
