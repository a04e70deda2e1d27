"""Features under a new model version, by a backfill over a real database or at a registration."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from psycopg_pool import AsyncConnectionPool

from benchmarks.artwork import draw_collection
from indexing.blobs import BlobStore, image_key
from indexing.bundle import DESCRIPTOR_GRAPH, Bundle
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_backfill import BackfillStore
from indexing.gallery_models import ModelStore
from indexing.gallery_records import ImageFeatures, unusable
from indexing.gallery_statements import EVERY_PUBLISHER, transaction
from indexing.migrations import migrate
from indexing.recognition import Recogniser
from indexing.reference import ReferenceImage
from server.backfill import Backfill, batch_features
from server.models import Model
from server.registration import image_features, written_features
from tests.conftest import Postgres
from tests.e2e.pictures import encoded
from tests.integration.references import a_reference

PUBLISHER = "acme"
STORED = b"what is stored of the former version"


@dataclass
class Gallery:
    """A publisher's images under the default model, and the way to another one."""

    pool: AsyncConnectionPool
    blobs: BlobStore
    former: FeatureExtractor
    bundle: Bundle

    async def register(self, file: bytes, features: ImageFeatures) -> str:
        """Registers an image with its features, and returns its id."""
        name = hashlib.sha256(file).hexdigest()[:12]
        new = a_reference(name, publisher=PUBLISHER, features=(features,))
        image = ReferenceImage(new.image.id, 400, 300, hashlib.sha256(file).digest())
        await self.blobs.put(image_key(PUBLISHER, image.id), file)
        await GalleryStore(self.pool).register(replace(new, image=image))
        return image.id

    async def filled(self, features: FeatureExtractor) -> dict[str, ImageFeatures]:
        """Runs the backfill of a version; returns what each image has of it."""
        models = ModelStore(self.pool)
        await models.register(features.version, self.bundle.manifest, 1)
        rollout = await models.start(features.version, 0.0, 0.0)
        backfill = Backfill(BackfillStore(self.pool), self.blobs, self.former, features, rollout)
        while await backfill.step(0.0):
            pass
        async with transaction(self.pool, EVERY_PUBLISHER) as connection:
            cursor = await connection.execute(
                "select image_id::text, embedding, local_features from image_features"
                " where model_version = %s",
                (features.version,),
            )
            rows = await cursor.fetchall()
        return {image: ImageFeatures(features.version, *made) for image, *made in rows}


@pytest.fixture
async def gallery(
    postgres: Postgres, bundle: Bundle, extractor: FeatureExtractor, tmp_path: Path
) -> AsyncIterator[Gallery]:
    dsn = postgres.create_database()
    await migrate(dsn)
    pool = await open_pool(dsn, max_size=6)
    models = ModelStore(pool)
    await models.register(bundle.version, bundle.manifest, 1)
    await models.begin_serving(bundle.version)
    await GalleryStore(pool).create_publisher(PUBLISHER, "", 0.001)
    yield Gallery(pool, BlobStore.from_url(f"file://{tmp_path / 'blobs'}"), extractor, bundle)
    await pool.close()


@pytest.fixture
def variant(variant_bundle: Callable[[str], Bundle]) -> Callable[[str], FeatureExtractor]:
    """Makes what extracts the features of the default model with other tensors."""
    return lambda changed: FeatureExtractor(variant_bundle(changed))


async def test_features_are_those_that_would_be_made_anew(
    gallery: Gallery, variant: Callable[[str], FeatureExtractor]
) -> None:
    files = [encoded(art.picture) for art in draw_collection("poster", 5, seed=3)]
    before = await batch_features(gallery.former, files, [b""] * len(files))
    images = [
        await gallery.register(file, features) for file, features in zip(files, before, strict=True)
    ]
    new = variant("network.head.")

    found = await gallery.filled(new)

    in_order = sorted(range(len(images)), key=images.__getitem__)
    anew = await batch_features(new, [files[n] for n in in_order], [b""] * len(files))
    assert found == {images[n]: made for n, made in zip(in_order, anew, strict=True)}
    for image, former in zip(images, before, strict=True):
        assert found[image].embedding != former.embedding


@pytest.mark.parametrize(
    ("changed", "kept"),
    [("network.head.", True), ("codebook.", True), (DESCRIPTOR_GRAPH, False)],
)
async def test_local_features_are_kept_where_nothing_that_they_depend_on_changed(
    gallery: Gallery, variant: Callable[[str], FeatureExtractor], changed: str, kept: bool
) -> None:
    (art,) = draw_collection("poster", 1, seed=3)
    file, new = encoded(art.picture), variant(changed)
    image = await gallery.register(file, ImageFeatures(gallery.former.version, b"\0\0", STORED))

    found = await gallery.filled(new)

    (anew,) = await batch_features(new, [file], [b""])
    (former,) = await batch_features(gallery.former, [file], [b""])
    assert (anew.local_features == former.local_features) is kept
    expected = replace(anew, local_features=STORED) if kept else anew
    assert found == {image: expected}


async def test_an_image_of_which_nothing_is_kept_is_looked_at(
    gallery: Gallery, variant: Callable[[str], FeatureExtractor]
) -> None:
    (art,) = draw_collection("poster", 1, seed=3)
    file, new = encoded(art.picture), variant("network.head.")
    image = await gallery.register(file, unusable(gallery.former.version))

    assert await gallery.filled(new) == {image: (await batch_features(new, [file], [b""]))[0]}


async def test_an_image_whose_file_is_lost_is_unusable_whatever_is_kept_of_it(
    gallery: Gallery, variant: Callable[[str], FeatureExtractor]
) -> None:
    (art,) = draw_collection("poster", 1, seed=3)
    stored = ImageFeatures(gallery.former.version, b"\0\0", STORED)
    image = await gallery.register(encoded(art.picture), stored)
    await gallery.blobs.delete([image_key(PUBLISHER, image)])
    new = variant("network.head.")

    assert await gallery.filled(new) == {image: unusable(new.version)}


@pytest.mark.parametrize("changed", ["network.head.", DESCRIPTOR_GRAPH])
def test_an_image_is_registered_with_the_features_that_each_version_alone_would_give_it(
    bundle: Bundle,
    extractor: FeatureExtractor,
    variant: Callable[[str], FeatureExtractor],
    changed: str,
) -> None:
    (art,) = draw_collection("poster", 1, seed=3)
    extractors = extractor, variant(changed)
    models = [Model(bundle, each, Recogniser(bundle)) for each in extractors]

    written = written_features(models, art.picture)

    assert written == tuple(image_features(each, art.picture) for each in extractors)
    kept = written[0].local_features == written[1].local_features
    assert kept is (changed == "network.head.")
