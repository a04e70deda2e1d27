"""Model versions and rollouts in a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from psycopg_pool import AsyncConnectionPool

from indexing import errors
from indexing.bundle import Bundle
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_backfill import FIRST_ID, BackfillStore
from indexing.gallery_models import ModelState, ModelStore
from indexing.gallery_records import ImageFeatures, unusable
from indexing.gate import GateReport, VersionQuality
from indexing.migrations import migrate
from indexing.rollout import RolloutState
from tests.conftest import Postgres
from tests.integration.references import MODEL, a_reference

NEW = "model-2"
QUALITY = VersionQuality(10, 1.0, 0.0, 0.01, 0.02)
GOOD = GateReport(QUALITY, QUALITY, (), ())
BAD = replace(GOOD, problems=("It is worse.",))


def features(*versions: str) -> tuple[ImageFeatures, ...]:
    return tuple(ImageFeatures(version, b"\x00\x3c" * 8, b"local") for version in versions)


@pytest.fixture
async def pool(postgres: Postgres) -> AsyncIterator[AsyncConnectionPool]:
    dsn = postgres.create_database()
    await migrate(dsn)
    opened = await open_pool(dsn, max_size=6)
    yield opened
    await opened.close()


@pytest.fixture
async def models(pool: AsyncConnectionPool, bundle: Bundle) -> ModelStore:
    """A store in which one version serves and another one is registered."""
    made = ModelStore(pool)
    for version in (MODEL, NEW):
        await made.register(version, bundle.manifest, 1)
    await made.begin_serving(MODEL)
    return made


@pytest.fixture
async def galleries(pool: AsyncConnectionPool) -> GalleryStore:
    store = GalleryStore(pool)
    for publisher in ("acme", "other"):
        await store.create_publisher(publisher, "", 0.001)
    return store


@pytest.fixture
def images(pool: AsyncConnectionPool) -> BackfillStore:
    return BackfillStore(pool)


async def fill(images: BackfillStore, version: str = NEW) -> None:
    lacking = await images.lacking(version, FIRST_ID, 100)
    await images.insert([(image.id, *features(version)) for image in lacking])


async def ready(models: ModelStore, images: BackfillStore, report: GateReport = GOOD) -> str:
    rollout = (await models.start(NEW, 0.0, 0.0)).id
    await fill(images)
    await models.evaluate(rollout)
    await models.be_ready(rollout, report)
    return rollout


async def state_of(models: ModelStore, version: str) -> ModelState:
    return (await models.model(version)).state


async def test_an_image_needs_features_of_both_versions_once_a_rollout_has_begun(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    await galleries.register(a_reference("before", features=features(MODEL)))
    await models.start(NEW, 0.0, 0.0)

    with pytest.raises(errors.FeaturesOutdated):
        await galleries.register(a_reference("between", features=features(MODEL)))
    await galleries.register(a_reference("after", features=features(MODEL, NEW, "another")))

    assert [each.reference for each in await images.lacking(NEW, FIRST_ID, 9)] == ["before"]
    with pytest.raises(errors.ModelUnavailable):
        await galleries.changes_since("acme", NEW, 0)
    await fill(images)
    delta = await galleries.changes_since("acme", NEW, 0)
    assert [each.reference_id for each in delta.changed] == ["after", "before"]
    assert await images.lacking("another", FIRST_ID, 9), "what nobody needs is not kept"


async def test_a_rollout_waits_for_who_writes_without_its_features(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    """However writes and the start meet, the backfill sees every image that lacks features."""
    for round_number in range(10):
        writes = [
            galleries.register(a_reference(f"{round_number}-{n}", features=features(MODEL)))
            for n in range(8)
        ]
        started, *written = await asyncio.gather(
            models.start(NEW, 0.0, 0.0), *writes, return_exceptions=True
        )
        assert not isinstance(started, BaseException)
        await fill(images)
        delta = await galleries.changes_since("acme", NEW, 0)
        done = sum(not isinstance(each, BaseException) for each in written)
        assert (
            len([r for r in delta.changed if r.reference_id.startswith(f"{round_number}-")]) == done
        )
        await models.end(started.id)
        assert await images.delete_needless() == [NEW]


async def test_an_image_that_a_version_cannot_use_is_left_out(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    await galleries.register(a_reference("one", features=features(MODEL)))
    rollout = await models.start(NEW, 0.0, 0.0)
    (lacking,) = await images.lacking(NEW, FIRST_ID, 9)
    await images.insert([(lacking.id, unusable(NEW))])

    (changed,) = (await galleries.changes_since("acme", NEW, 0)).changed
    assert changed.images == ()
    progress = await images.progress(rollout.id, NEW)
    assert (progress.done, progress.images, progress.unusable) == (1, 1, 1)


async def test_publishers_are_switched_some_first_and_all_back(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    rollout = await ready(models, images)
    epoch = await models.epoch()

    canary = await models.activate(rollout, ["acme"], 0.0, False)
    assert canary.state is RolloutState.CANARY
    serving = await models.serving()
    assert [serving.version(name) for name in ("acme", "other")] == [NEW, MODEL]
    assert serving.epoch > epoch

    assert (await models.activate(rollout, [], 0.0, False)).state is RolloutState.ACTIVE
    serving = await models.serving()
    assert [serving.version(name) for name in ("acme", "other")] == [NEW, NEW]
    assert set(serving.written) == {NEW, MODEL}

    back = await models.roll_back(rollout, "Because.")
    assert (back.state, back.problem) == (RolloutState.READY, "Because.")
    serving = await models.serving()
    assert [serving.version(name) for name in ("acme", "other")] == [MODEL, MODEL]
    with pytest.raises(errors.RolloutStateInvalid):
        await models.roll_back(rollout, "Again.")


async def test_a_failed_comparison_must_be_forced_and_is_kept(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    rollout = await ready(models, images, BAD)
    with pytest.raises(errors.GateFailed, match="It is worse"):
        await models.activate(rollout, [], 0.0, False)
    assert (await models.serving()).default == MODEL
    forced = await models.activate(rollout, [], 0.0, True)
    assert (forced.state, forced.forced) == (RolloutState.ACTIVE, True)
    assert (await models.gate(rollout))[0] == BAD


async def test_nothing_is_switched_while_a_scanner_lacks_the_version(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    rollout = await ready(models, images)
    await models.see_scanner("one", [MODEL, NEW])
    await models.see_scanner("two", [MODEL])
    with pytest.raises(errors.RolloutStateInvalid, match="1 scanners have not loaded"):
        await models.activate(rollout, [], 0.0, False)
    await models.see_scanner("two", [MODEL, NEW])
    await models.activate(rollout, [], 0.0, False)


async def test_an_unknown_publisher_switches_nobody(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    rollout = await ready(models, images)
    with pytest.raises(errors.PublisherNotFound):
        await models.activate(rollout, ["acme", "unknown"], 0.0, False)
    assert (await models.serving()).publishers == {}


async def test_one_rollout_at_a_time_and_none_of_what_serves(models: ModelStore) -> None:
    with pytest.raises(errors.ModelInUse):
        await models.start(MODEL, 0.0, 0.0)
    with pytest.raises(errors.ModelNotFound):
        await models.start("unknown", 0.0, 0.0)
    started = await asyncio.gather(
        *(models.start(NEW, 0.0, 0.0) for _ in range(4)), return_exceptions=True
    )
    refused = [each for each in started if isinstance(each, errors.RolloutUnderWay)]
    assert len(refused) == 3


async def test_what_ends_a_rollout_deletes_the_features_of_the_other_version(
    models: ModelStore, galleries: GalleryStore, images: BackfillStore
) -> None:
    await galleries.register(a_reference("one", features=features(MODEL)))
    rollout = await ready(models, images)
    assert await images.delete_needless() == []
    assert [await state_of(models, each) for each in (MODEL, NEW)] == [
        ModelState.ACTIVE,
        ModelState.READY,
    ]
    await models.activate(rollout, [], 0.0, False)
    assert (await models.end(rollout)).state is RolloutState.COMPLETED
    assert await state_of(models, MODEL) is ModelState.RETIRED
    assert await images.delete_needless() == [MODEL]
    assert await images.delete_needless() == []
    with pytest.raises(errors.ModelUnavailable):
        await galleries.changes_since("acme", MODEL, 0)
    with pytest.raises(errors.RolloutStateInvalid, match="features of the former version are gone"):
        await models.roll_back(rollout, "Too late.")
    await models.delete_model(MODEL)
    with pytest.raises(errors.ModelInUse):
        await models.delete_model(NEW)


async def test_a_version_that_fails_can_be_tried_again(models: ModelStore) -> None:
    rollout = await models.start(NEW, 0.0, 0.0)
    await models.fail(rollout.id, "It cannot be loaded.")
    failed = await models.rollout(rollout.id)
    assert (failed.state, failed.problem) == (RolloutState.FAILED, "It cannot be loaded.")
    assert await state_of(models, NEW) is ModelState.FAILED
    with pytest.raises(errors.RolloutStateInvalid):
        await models.update(rollout.id, paused=True)
    again = await models.start(NEW, 0.0, 0.5)
    assert (await models.update(again.id, paused=True)).paused
    assert (await models.rollouts())[0].id == again.id
