"""What a process has in memory of the model versions that come and go in a real PostgreSQL."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from psycopg_pool import AsyncConnectionPool

from benchmarks.another_model import write_bundle
from indexing import errors
from indexing.blobs import BlobStore
from indexing.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from indexing.bundle_store import FILES, BundleStore
from indexing.embedding import Embedder
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_backfill import BackfillStore
from indexing.gallery_models import ModelStore
from indexing.gallery_records import ImageFeatures
from indexing.gallery_watch import ScanCountStore
from indexing.gate import GateReport, VersionQuality
from indexing.rollout import RolloutState
from server import model_operator
from server.model_operator import ModelOperator
from server.models import Model, Models, ServingFollower, model_memory_mb
from server.monitoring import Watch
from server.rollout_driver import RolloutDriver
from tests.integration.references import a_reference

QUALITY = VersionQuality(1, 1.0, 0.0, 0.0, 0.1)
GOOD = GateReport(QUALITY, QUALITY, (), ())
MOST = 2


@dataclass
class Hold:
    """Holds a load up, from its beginning until ``over`` is set."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Loader:
    """Loads bundles, and knows which were, how many are in memory, and how many there were at most."""

    bundles: BundleStore
    held: dict[str, Hold] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    most: int = 0
    _networks: "weakref.WeakSet[Embedder]" = field(default_factory=weakref.WeakSet)

    async def load(self, version: str) -> Bundle:
        self.begun.append(version)
        bundle = await self.bundles.load(version)
        self._networks.add(await asyncio.to_thread(lambda: bundle.embedder))
        self.most = max(self.most, len(self._networks))
        if version in self.held:
            self.held[version].begun.set()
            await self.held[version].over.wait()
        return bundle


@dataclass
class Process:
    """A process with models, beside the database that says which it needs."""

    pool: AsyncConnectionPool
    store: ModelStore
    follower: ServingFollower
    loader: Loader
    models: Models
    versions: list[str]

    async def start(self, version: str) -> str:
        """Begins a rollout, and hears of it; returns its id."""
        rollout = await self.store.start(version, 0.0, 0.0)
        await self.follower.refresh()
        return rollout.id

    async def start_after_one_that_loads(
        self, given_up: str, version: str
    ) -> tuple[str, asyncio.Task[Model], Hold]:
        """Begins a rollout while the version of one that is over still loads.

        Returns its id, that load, and what holds it up.
        """
        held = self.loader.held[given_up] = Hold()
        rollout = await self.start(given_up)
        loading = asyncio.create_task(self.models.get(given_up))
        await held.begun.wait()
        await self.store.end(rollout)
        return await self.start(version), loading, held

    async def activate(self, rollout: str) -> None:
        """Switches all publishers of a rollout that has nothing to fill, and hears of it."""
        await self.store.evaluate(rollout)
        await self.store.be_ready(rollout, GOOD)
        async with asyncio.timeout(10.0):
            while (await self.store.rollout(rollout)).state is not RolloutState.ACTIVE:
                # Not before the process has written down that it has the version.
                with suppress(errors.RolloutStateInvalid):
                    await self.store.activate(rollout, [], 0.0, False)
        await self.follower.refresh()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three bundles, each in a folder."""
    base = tmp_path_factory.mktemp("bundles")
    others = {write_bundle(base / name, name=name): base / name for name in ("second", "third")}
    return {load_bundle(DEFAULT_BUNDLE).version: DEFAULT_BUNDLE, **others}


@pytest.fixture
async def process(
    postgres_dsn: str, folders: dict[str, Path], tmp_path: Path
) -> AsyncIterator[Process]:
    blobs = BlobStore.from_url(f"file://{tmp_path / 'blobs'}")
    bundles = BundleStore(blobs, tmp_path / "bundles")
    pool = await open_pool(postgres_dsn, max_size=6)
    store, versions = ModelStore(pool), list(folders)
    for version, folder in folders.items():
        await bundles.put(version, folder)
        await store.register(version, load_bundle(folder).manifest, bundle_bytes(folder))
    await store.begin_serving(versions[0])
    follower, loader = ServingFollower(store, versions[0]), Loader(bundles)
    models = Models(loader.load, follower, store, "process", 1)
    await models.begin()
    yield Process(pool, store, follower, loader, models, versions)
    await pool.close()


async def test_a_version_goes_before_the_next_one_is_loaded(process: Process) -> None:
    former, second, third = process.versions
    following = asyncio.create_task(process.models.follow())
    for version in (second, third, second):
        # Of the end of the rollout before it hears with the beginning of the next.
        rollout = await process.start(version)
        await process.models.get(version)
        assert (await process.models.serving("acme")).version == former
        await process.store.end(rollout)
    following.cancel()
    assert process.loader.most == MOST


async def test_a_version_that_serves_stays_until_another_does(process: Process) -> None:
    former, second, third = process.versions
    following = asyncio.create_task(process.models.follow())
    for served, version in ((former, second), (second, third)):
        rollout = await process.start(version)
        await process.models.get(version)
        await process.activate(rollout)
        for each in (served, version):
            assert (await process.models.get(each)).version == each
        await process.store.end(rollout)
        assert (await process.models.serving("acme")).version == version
    following.cancel()
    # None of them twice.
    assert process.loader.begun == process.versions
    assert process.loader.most == MOST


async def test_a_version_that_went_out_of_use_while_it_waited_is_not_loaded(
    process: Process,
) -> None:
    former, second, third = process.versions
    rollout, loading, held = await process.start_after_one_that_loads(second, third)
    waiting = asyncio.create_task(process.models.get(third))
    await process.store.end(rollout)
    await process.follower.refresh()
    held.over.set()

    assert (await loading).version == second
    with pytest.raises(errors.ModelUnavailable):
        await waiting
    assert process.loader.begun == [former, second]
    # It is loaded once it is needed.
    await process.start(third)
    del loading, waiting
    assert (await process.models.get(third)).version == third
    assert process.loader.most == MOST


async def test_what_is_written_meanwhile_has_what_is_needed_by_then(process: Process) -> None:
    former, second, third = process.versions
    rollout, loading, held = await process.start_after_one_that_loads(second, third)
    writing = asyncio.create_task(process.models.written())
    await process.store.end(rollout)
    await process.follower.refresh()
    held.over.set()
    assert [model.version for model in await writing] == [former]
    await loading


async def test_who_drives_rollouts_drops_the_version_of_the_one_before(
    process: Process, store: GalleryStore, acme: str, tmp_path: Path
) -> None:
    former, second, third = process.versions
    features = ImageFeatures(former, b"\x00\x3c" * 8, b"local")
    await store.register(a_reference("one", publisher=acme, features=(features,)))
    # The file is lost, which is no obstacle; and no rollout comes to be compared here.
    blobs, images = BlobStore.from_url(f"file://{tmp_path / 'blobs'}"), BackfillStore(process.pool)
    driver = RolloutDriver(
        process.store,
        images,
        process.follower,
        process.models,
        blobs,
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
    )
    for version in (second, third):
        rollout = await process.start(version)
        while (await process.store.rollout(rollout)).state is RolloutState.BACKFILLING:
            assert await driver.step()
        await process.store.end(rollout)
    assert process.loader.begun == process.versions
    assert process.loader.most == MOST


async def test_bundles_that_are_sent_are_checked_one_at_a_time(
    process: Process, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, together = [], threading.Barrier(2)

    def check(folder: Path) -> None:
        # Until another comes, had it not to wait.
        with pytest.raises(threading.BrokenBarrierError):
            together.wait(1.0)
        together.reset()
        checked.append(folder)

    monkeypatch.setattr(model_operator, "check_bundle", check)
    operator = model_operator_of(process, 0)
    await asyncio.gather(*(operator.register(pieces(folder)) for folder in folders.values()))
    assert len(checked) == 3


async def test_a_model_that_has_no_room_beside_what_serves_is_refused(
    process: Process, folders: dict[str, Path]
) -> None:
    _, second, third = process.versions
    both = sum(model_memory_mb(bundle_bytes(folders[each])) for each in process.versions[:2])
    scarce = model_operator_of(process, both - 1)
    with pytest.raises(errors.ModelTooLarge, match=f"needs {both} MB.* the {both - 1} of"):
        await scarce.register(pieces(folders[second]))
    with pytest.raises(errors.ModelTooLarge):
        await scarce.start(second, 0.0, 0.0)

    enough = model_operator_of(process, both)
    assert (await enough.register(pieces(folders[second]))).version == second
    await enough.start(second, 0.0, 0.0)
    # It is in memory beside the two of the rollout while it is checked.
    with pytest.raises(errors.ModelTooLarge):
        await enough.register(pieces(folders[third]))
    with pytest.raises(errors.RolloutUnderWay):
        await enough.start(second, 0.0, 0.0)


def bundle_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def model_operator_of(process: Process, memory_mb: int) -> ModelOperator:
    images, counts = BackfillStore(process.pool), ScanCountStore(process.pool)
    watch, preparer = Watch(process.store, counts), None
    bundles = process.loader.bundles
    return ModelOperator(
        process.store,
        bundles,
        images,
        counts,
        watch,
        preparer,  # type: ignore[arg-type]
        memory_mb,
    )


async def pieces(folder: Path) -> AsyncIterator[tuple[str, bytes]]:
    """A bundle as it is sent."""
    for name in FILES:
        yield name, (folder / name).read_bytes()
