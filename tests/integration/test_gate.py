"""Two model versions compared on images and kept scans of a real database."""

import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio

from benchmarks.artwork import draw_collection
from indexing.blobs import BlobStore, image_key
from indexing.bundle import DESCRIPTOR_GRAPH, Bundle
from indexing.errors import ImageLinkError
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_backfill import BackfillStore
from indexing.gallery_scans import KeptScanStore
from indexing.gate import GateReport
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.recognition import Recogniser
from indexing.reference import ReferenceImage
from indexing.search import Query, SearchResult
from server.gate import SAMPLED_SCANS, VIEWS_PER_IMAGE, Gate
from server.models import Model
from tests.e2e.pictures import encoded
from tests.integration.references import MODEL, a_reference

POSTER = encoded(draw_collection("poster", 1, seed=3)[0].picture)
PHOTOS = VIEWS_PER_IMAGE + 1


async def found_nothing(queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
    """The answer of a gallery that leaves every photo in doubt, so that all features are asked."""
    return [SearchResult(1, 1, (), ()) for _ in queries]


def model(bundle: Bundle) -> Model:
    return Model(bundle, FeatureExtractor(bundle), Recogniser(bundle))


@pytest_asyncio.fixture
async def gate(postgres_dsn: str, store: GalleryStore, acme: str) -> AsyncIterator[Gate]:
    """The gate of a gallery with one reference and one kept scan."""
    blobs, pool = BlobStore.from_url("memory://"), await open_pool(postgres_dsn, max_size=2)
    new = a_reference("poster", publisher=acme)
    image = ReferenceImage(new.image.id, 400, 300, hashlib.sha256(POSTER).digest())
    await blobs.put(image_key(acme, image.id), POSTER)
    await store.register(replace(new, image=image))
    agreed = await store.update_publisher(acme, max_kept_scans=1)
    scans = KeptScanStore(pool)
    assert await scans.keep(agreed, "scan", (), MODEL, lambda key: blobs.put(key, POSTER))
    assert len(await scans.sample(SAMPLED_SCANS)) == 1
    yield Gate(store, BackfillStore(pool), scans, blobs, found_nothing)
    await pool.close()


async def compared(gate: Gate, former: Bundle, new: Bundle) -> GateReport:
    return await gate.compare(model(former), model(new), 0)


@pytest.mark.parametrize(("changed", "times"), [("network.head.", 1), (DESCRIPTOR_GRAPH, 2)])
async def test_local_features_are_found_once_for_versions_that_find_the_same(
    gate: Gate,
    bundle: Bundle,
    variant_bundle: Callable[[str], Bundle],
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    times: int,
) -> None:
    looked: Counter[tuple[bytes, Channel]] = Counter()
    query = FeatureExtractor.query

    def counted(
        self: FeatureExtractor, picture: Pixels, channel: Channel, binary: LocalFeatures | None
    ) -> LocalFeatures:
        looked[picture.tobytes(), channel] += 1
        return query(self, picture, channel, binary)

    monkeypatch.setattr(FeatureExtractor, "query", counted)
    await compared(gate, bundle, variant_bundle(changed))
    assert len(looked) == PHOTOS * len(Channel)
    assert set(looked.values()) == {times}


async def test_a_version_is_not_thought_faster_for_what_the_other_found(
    gate: Gate,
    bundle: Bundle,
    variant_bundle: Callable[[str], Bundle],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = 0.2
    query = FeatureExtractor.query

    def slow(
        self: FeatureExtractor, picture: Pixels, channel: Channel, binary: LocalFeatures | None
    ) -> LocalFeatures:
        time.sleep(seconds)
        return query(self, picture, channel, binary)

    monkeypatch.setattr(FeatureExtractor, "query", slow)
    report = await compared(gate, bundle, variant_bundle("network.head."))
    assert report.former.mean_seconds >= seconds * len(Channel)
    assert report.new.mean_seconds >= seconds * len(Channel)
