"""Random rollouts, registrations, crashes and flips never compare two embedding spaces.

Two versions of different dimensions serve two publishers. Whatever happened, a search under a version
that serves sees exactly what is registered, and one under another version sees that, or is refused.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from benchmarks.another_model import write_bundle
from benchmarks.artwork import draw_collection
from indexing import errors
from indexing.appearance import photo_levels
from indexing.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_backfill import FIRST_ID, BackfillStore
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_models import ModelStore
from indexing.gallery_records import ImageFeatures
from indexing.gate import GateReport, VersionQuality
from indexing.keypoints import Channel
from indexing.migrations import migrate
from indexing.replica import ShardReplica
from indexing.rollout import Serving
from indexing.search import Query
from indexing.shard import Shard
from indexing.snapshot import SnapshotStore
from server.registration import image_features
from tests.conftest import Postgres
from tests.integration.references import a_reference

PUBLISHERS = ("acme", "other")
QUALITY = VersionQuality(1, 1.0, 0.0, 0.0, 0.1)
GOOD = GateReport(QUALITY, QUALITY, (), ())
REFUSED = (errors.RolloutStateInvalid, errors.RolloutUnderWay, errors.ModelInUse)
EXAMPLES, STEPS = 30, 25

Step = tuple[str, int]


@dataclass(frozen=True)
class World:
    """What all examples share: a database, two bundles, a picture's features and queries."""

    dsn: str
    bundles: dict[str, Bundle]
    shards: dict[str, Shard]
    features: dict[str, ImageFeatures]
    queries: dict[str, Query]


class Run:
    """One example: the database, one shard's replica, and a scanner that may not have heard."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.versions = list(world.bundles)
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="models-"))
        self.registered: dict[str, set[str]] = {name: set() for name in PUBLISHERS}
        self.numbers = 0
        self.rollout = ""
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def _begin(self) -> None:
        self.pool = await open_pool(self.world.dsn, max_size=6)
        self.store, self.models = GalleryStore(self.pool), ModelStore(self.pool)
        self.images = BackfillStore(self.pool)
        await _emptied(self.pool)
        for version, bundle in self.world.bundles.items():
            await self.models.register(version, bundle.manifest, 1)
        for name in PUBLISHERS:
            await self.store.create_publisher(name, "", 0.001)
        self.known: Serving = await self.models.begin_serving(self.versions[0])
        await self.crash(0)

    def close(self) -> None:
        self.run(self.pool.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    async def _generation(self, version: str) -> Any:
        return self.world.shards[version].empty_gallery()

    # What may happen

    async def crash(self, _: int) -> None:
        """The shard is killed and starts again, with the snapshots that it wrote."""
        self.replica = ShardReplica(
            self._generation,
            self.store,
            SnapshotStore(self.folder),
            ErasureStore(self.pool),
            "replica",
            1_000_000_000,
        )

    async def snapshot(self, _: int) -> None:
        for generation in list(self.replica._loaded):
            await self.replica._save(generation)

    async def register(self, number: int) -> None:
        """A scanner registers as it does: with what it knows, and once more with what it learns."""
        publisher = PUBLISHERS[number % 2]
        self.numbers += 1
        name = f"r{self.numbers}"
        while True:
            made = tuple(self.world.features[version] for version in self.known.written)
            try:
                await self.store.register(a_reference(name, publisher=publisher, features=made))
                break
            except errors.FeaturesOutdated:
                self.known = await self.models.serving()
        self.registered[publisher].add(name)

    async def delete(self, number: int) -> None:
        publisher = PUBLISHERS[number % 2]
        if self.registered[publisher]:
            await self.store.delete_reference(publisher, self.registered[publisher].pop())

    async def hear(self, _: int) -> None:
        self.known = await self.models.serving()

    async def follow(self, _: int) -> None:
        await self.replica._catch_up(set(PUBLISHERS))

    async def start(self, number: int) -> None:
        serving = await self.models.serving()
        other = next(version for version in self.versions if version != serving.default)
        self.rollout = (await self.models.start(other, 0.0, 0.0)).id

    async def fill(self, number: int) -> None:
        """A part of the backfill, or all of it; once all is done the rollout is ready."""
        rollout = (await self.models.serving()).rollout
        if rollout is None:
            return
        lacking = await self.images.lacking(rollout.model, FIRST_ID, 1 + number * 3)
        made = self.world.features[rollout.model]
        await self.images.insert([(image.id, made) for image in lacking])
        if not await self.images.lacking(rollout.model, FIRST_ID, 1):
            await self.models.evaluate(rollout.id)
            await self.models.be_ready(rollout.id, GOOD)

    async def activate(self, number: int) -> None:
        publishers = [PUBLISHERS[number % 2]] if number < 3 else []
        await self.models.activate(self.rollout, publishers, 0.0, False)

    async def roll_back(self, _: int) -> None:
        await self.models.roll_back(self.rollout, "")

    async def end(self, _: int) -> None:
        await self.models.end(self.rollout)

    async def clean(self, _: int) -> None:
        await self.images.delete_needless()

    async def search(self, number: int) -> None:
        """Asks under the version that the scanner believes to serve, and under each."""
        publisher = PUBLISHERS[number % 2]
        now = await self.models.serving()
        for version in (self.known.version(publisher), *self.versions):
            query = replace(self.world.queries[version], publisher=publisher)
            current = (await self.store.get_publisher(publisher)).gallery_version
            query = replace(query, min_gallery_version=current)
            (answer,) = await self.replica.search([query])
            if isinstance(answer, errors.ModelUnavailable):
                assert version != now.version(publisher), "what serves was refused"
                continue
            assert not isinstance(answer, errors.ImageLinkError), answer
            assert answer.references == len(self.registered[publisher])
            assert set(answer.shortlist) <= self.registered[publisher]


OPERATIONS = (
    *("register", "search") * 3,
    *("fill", "activate", "start") * 2,
    *("delete", "hear", "follow", "crash", "snapshot", "roll_back", "end", "clean"),
)
steps = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 4)), min_size=STEPS, max_size=STEPS
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(done=steps)
def test_two_embedding_spaces_are_never_compared(world: World, done: list[Step]) -> None:
    run = Run(world)
    try:
        for name, number in done:
            with_rollout = name in ("activate", "roll_back", "end")
            if with_rollout and not run.rollout:
                continue
            with suppress(*REFUSED):
                run.run(getattr(run, name)(number))
        for number in range(len(PUBLISHERS)):
            run.run(run.search(number))
    finally:
        run.close()


@pytest.fixture
def world(postgres: Postgres, tmp_path: Path) -> World:
    dsn = postgres.create_database()
    asyncio.run(migrate(dsn))
    write_bundle(tmp_path)
    bundles = {each.version: each for each in map(load_bundle, (DEFAULT_BUNDLE, tmp_path))}
    (art,) = draw_collection("poster", 1, seed=3)
    features, queries = {}, {}
    for version, bundle in bundles.items():
        extractor = FeatureExtractor(bundle)
        features[version] = image_features(extractor, art.picture)
        local = extractor.query(art.picture, Channel.FINE)
        embedded = extractor.embed([art.picture])
        levels = photo_levels(art.picture)
        queries[version] = Query(0, "", version, Channel.FINE, local, levels, embedded)
    shards = {version: Shard(bundle) for version, bundle in bundles.items()}
    return World(dsn, bundles, shards, features, queries)


async def _emptied(pool: AsyncConnectionPool) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "delete from serving; delete from publisher_model; delete from rollout;"
            "delete from model; delete from publisher; delete from erasure"
        )
