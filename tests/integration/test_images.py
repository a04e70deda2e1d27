"""The images of a reference: rows in PostgreSQL, files in the blob store."""

import asyncio
import hashlib
import threading
import time
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from indexing import errors
from indexing.blobs import BlobStore, image_key
from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.features import FeatureExtractor, ReferenceFeatures
from indexing.gallery import GalleryStore
from indexing.gallery_records import MAX_IMAGES, ImageFeatures, NewImage
from indexing.image import Pixels
from indexing.reference import ReferenceImage
from server import registration
from server.background import THREADS
from server.registration import Registrar, Registration
from tests.e2e.pictures import encoded, patchwork
from tests.integration.references import MODEL, a_reference
from tests.one_model import OneModel

LINK = "https://example.com/"


def an_image(reference: str = "one", publisher: str = "acme") -> NewImage:
    identity = str(uuid4())
    image = ReferenceImage(identity, 300, 400, hashlib.sha256(identity.encode()).digest())
    return NewImage(publisher, reference, image, (ImageFeatures(MODEL, b"\x00\x3c" * 8, b"more"),))


async def image_versions(store: GalleryStore) -> dict[str, list[str]]:
    """The images of each reference, as an index of the whole gallery sees them."""
    delta = await store.changes_since("acme", MODEL, 0)
    return {each.reference_id: [i.image_id for i in each.images] for each in delta.changed}


class TestStore:
    async def test_an_image_is_added_and_indexed(self, store: GalleryStore, acme: str) -> None:
        first = a_reference("one")
        before = (await store.register(first)).reference
        new = an_image()

        written = await store.add_image(new)

        assert written.gallery_version == 2
        assert written.reference.images == (first.image, new.image)
        assert written.reference.update_time > before.update_time
        assert await store.get_reference(acme, "one") == written.reference
        (changed,) = (await store.changes_since(acme, MODEL, 1)).changed
        assert [image.image_id for image in changed.images] == [first.image.id, new.image.id]
        assert changed.images[1].local_features == new.features[0].local_features
        assert await store.count_images_without_features(MODEL) == 0

    async def test_an_image_is_removed_with_its_features(
        self, store: GalleryStore, acme: str, postgres_dsn: str
    ) -> None:
        first = a_reference("one")
        await store.register(first)
        new = an_image()
        await store.add_image(new)

        written = await store.remove_image(acme, "one", first.image.id)

        assert written.gallery_version == 3
        assert written.reference.images == (new.image,)
        with psycopg.connect(postgres_dsn) as connection:
            rows = connection.execute("select image_id::text from image_features").fetchall()
        assert rows == [(new.image.id,)]
        (changed,) = (await store.changes_since(acme, MODEL, 2)).changed
        assert [image.image_id for image in changed.images] == [new.image.id]

    async def test_the_last_image_stays(self, store: GalleryStore, acme: str) -> None:
        new = a_reference("one")
        await store.register(new)
        with pytest.raises(errors.LastImage, match="'one' has no other image: add another"):
            await store.remove_image(acme, "one", new.image.id)
        assert (await store.get_reference(acme, "one")).images == (new.image,)
        assert (await store.get_publisher(acme)).gallery_version == 1

    async def test_two_removals_at_once_leave_one_image(
        self, store: GalleryStore, acme: str
    ) -> None:
        first, second = a_reference("one"), an_image()
        await store.register(first)
        await store.add_image(second)
        removals = (store.remove_image(acme, "one", each.image.id) for each in (first, second))
        outcomes = await asyncio.gather(*removals, return_exceptions=True)
        assert sum(isinstance(outcome, errors.LastImage) for outcome in outcomes) == 1
        assert len((await store.get_reference(acme, "one")).images) == 1

    async def test_no_more_than_the_limit_are_added(self, store: GalleryStore, acme: str) -> None:
        await store.register(a_reference("one"))
        adding = (store.add_image(an_image()) for _ in range(MAX_IMAGES + 1))

        outcomes = await asyncio.gather(*adding, return_exceptions=True)

        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(error) for error in refused] == [errors.TooManyImages] * 2
        assert f"has {MAX_IMAGES} images, the most" in str(refused[0])
        assert len((await store.get_reference(acme, "one")).images) == MAX_IMAGES
        assert (await store.get_publisher(acme)).gallery_version == MAX_IMAGES
        removed = (await image_versions(store))["one"][0]
        await store.remove_image(acme, "one", removed)
        assert len((await store.add_image(an_image())).reference.images) == MAX_IMAGES

    async def test_what_is_not_there(self, store: GalleryStore, acme: str) -> None:
        mine, theirs = a_reference("one"), a_reference("one", "other")
        await store.create_publisher("other", "", 0.001)
        await store.register(mine)
        await store.register(theirs)
        await store.register(a_reference("two"))
        await store.add_image(an_image())
        for image in (str(uuid4()), theirs.image.id):
            with pytest.raises(errors.ImageNotFound):
                await store.remove_image(acme, "one", image)
        with pytest.raises(errors.ImageNotFound):
            await store.remove_image(acme, "two", mine.image.id)
        for call in (
            store.add_image(an_image("no")),
            store.remove_image(acme, "no", mine.image.id),
        ):
            with pytest.raises(errors.ReferenceNotFound):
                await call
        for call in (
            store.add_image(an_image(publisher="nobody")),
            store.remove_image("nobody", "one", mine.image.id),
        ):
            with pytest.raises(errors.PublisherNotFound):
                await call
        assert (await store.get_publisher(acme)).gallery_version == 3
        assert (await store.get_publisher("other")).gallery_version == 1

    async def test_all_images_go_with_their_reference(self, store: GalleryStore, acme: str) -> None:
        await store.register(a_reference("one"))
        await store.register(a_reference("two"))
        await store.add_image(an_image())
        assert {name: len(each) for name, each in (await image_versions(store)).items()} == {
            "one": 2,
            "two": 1,
        }
        await store.delete_reference(acme, "one")
        assert {name: len(each) for name, each in (await image_versions(store)).items()} == {
            "two": 1
        }


class Folder:
    """A blob store in a folder, and what lies there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = BlobStore.from_url(path.as_uri())

    def files(self) -> set[str]:
        return {str(f.relative_to(self.path)) for f in self.path.rglob("*") if f.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def features() -> FeatureExtractor:
    return FeatureExtractor(load_bundle(DEFAULT_BUNDLE))


@pytest.fixture
def registrar(store: GalleryStore, folder: Folder, features: FeatureExtractor) -> Registrar:
    return Registrar(store, folder.blobs, OneModel(load_bundle(DEFAULT_BUNDLE), features))


class Counting:
    """Extracts features, and notes how many pictures were in work at a time."""

    def __init__(self, features: FeatureExtractor) -> None:
        self.version = features.version
        self._features = features
        self._lock = threading.Lock()
        self.now = self.most = 0

    def reference(self, picture: Pixels) -> ReferenceFeatures:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        found = self._features.reference(picture)
        with self._lock:
            self.now -= 1
        return found


async def test_many_at_once_leave_threads_for_others(
    store: GalleryStore, acme: str, folder: Folder, features: FeatureExtractor
) -> None:
    counting = Counting(features)
    registrar = Registrar(store, folder.blobs, OneModel(load_bundle(DEFAULT_BUNDLE), counting))
    image = encoded(patchwork(1, 128))
    await asyncio.gather(*(registrar.register(asked(f"r{number}", image)) for number in range(20)))
    assert counting.most == THREADS
    assert len(folder.files()) == 20


def asked(reference: str, image: bytes, request_id: str = "") -> Registration:
    return Registration("acme", reference, LINK, {}, image, request_id)


async def test_requests_are_forgotten_after_a_week(
    registrar: Registrar,
    store: GalleryStore,
    acme: str,
    postgres_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registration, "FORGET_SECONDS", 0.01)
    image, old, late = encoded(patchwork(1)), str(uuid4()), str(uuid4())
    await registrar.register(asked("old", image, old))
    second = await registrar.register(asked("late", image, late))
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(
            "update register_request set create_time = now() - case request_id"
            " when %s then interval '7 days 1 minute' else interval '6 days' end",
            [old],
        )

    following = asyncio.create_task(registrar.follow())
    for _ in range(1000):
        if not await store.find_request(acme, old, asked("old", image, old).fingerprint()):
            break
        await asyncio.sleep(0.01)
    following.cancel()

    assert await registrar.register(asked("late", image, late)) == second
    # It is a new registration now, of what is there already.
    with pytest.raises(errors.ReferenceAlreadyExists):
        await registrar.register(asked("old", image, old))


class TestFiles:
    async def test_each_image_has_its_file_until_it_is_removed(
        self,
        registrar: Registrar,
        store: GalleryStore,
        features: FeatureExtractor,
        acme: str,
        folder: Folder,
    ) -> None:
        front, back = encoded(patchwork(1)), encoded(patchwork(2))
        first = (await registrar.register(asked("one", front))).reference.images[0]
        written, second = await registrar.add_image(acme, "one", back)
        assert written.reference.images == (first, second)
        assert second.sha256 == hashlib.sha256(back).digest()
        assert await folder.blobs.get(image_key(acme, second.id)) == back

        await registrar.remove_image(acme, "one", first.id)

        assert folder.files() == {image_key(acme, second.id)}
        assert await store.count_images_without_features(features.version) == 0

    async def test_a_refused_image_leaves_no_file(
        self, registrar: Registrar, store: GalleryStore, acme: str, folder: Folder
    ) -> None:
        front = encoded(patchwork(1))
        await registrar.register(asked("one", front))
        for _ in range(MAX_IMAGES - 1):
            await store.add_image(an_image())
        before = folder.files()

        with pytest.raises(errors.TooManyImages):
            await registrar.add_image(acme, "one", front)
        with pytest.raises(errors.ReferenceNotFound):
            await registrar.add_image(acme, "no", front)
        with pytest.raises(errors.ImageInvalid):
            await registrar.add_image(acme, "one", b"garbage")
        with pytest.raises(errors.ReferenceAlreadyExists):
            await registrar.register(asked("one", front))

        assert folder.files() == before

    async def test_registrations_at_once_that_lose_leave_no_file(
        self, registrar: Registrar, acme: str, folder: Folder
    ) -> None:
        image, request_id = encoded(patchwork(1)), str(uuid4())
        calls = [registrar.register(asked("one", image)) for _ in range(3)]
        calls += [registrar.register(asked("two", image, request_id)) for _ in range(3)]

        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert sum(isinstance(each, errors.ReferenceAlreadyExists) for each in outcomes) == 2
        two = {
            each.reference.images[0].id
            for each in outcomes[3:]
            if not isinstance(each, BaseException)
        }
        assert len(two) == 1
        assert len(folder.files()) == 2
