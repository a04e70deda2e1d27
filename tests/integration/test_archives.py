"""Exports and imports between two installations, each with its own PostgreSQL database."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio
from psycopg_pool import AsyncConnectionPool

from benchmarks.artwork import draw_collection
from indexing.archive import ArchivedImage, ArchivedReference, ArchiveHeader, ArchiveWriter
from indexing.blobs import BlobStore, image_key
from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.errors import (
    ArchiveDamaged,
    ArchiveInvalid,
    ImageFileDamaged,
    ImageTooPlain,
    ModelUnavailable,
    PublisherNotFound,
    ReferenceQuotaExceeded,
)
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_archives import ArchiveStore
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_records import GalleryDelta
from indexing.migrations import migrate
from indexing.reference import Reference, Role
from server.archives import Archivist, Imported
from server.erasing import Eraser
from server.registration import Registrar, Registration
from tests.conftest import Postgres
from tests.e2e.pictures import encoded
from tests.one_model import OneModel

PICTURES = [encoded(art.picture) for art in draw_collection("poster", 4, seed=3)]
PLAIN = encoded(draw_collection("poster", 1, seed=3)[0].picture * 0 + 128)


@pytest.fixture(scope="module")
def features() -> FeatureExtractor:
    return FeatureExtractor(load_bundle(DEFAULT_BUNDLE))


@dataclass
class Installation:
    """A server's stores and flows."""

    store: GalleryStore
    pool: AsyncConnectionPool
    blobs: BlobStore
    features: FeatureExtractor

    @property
    def models(self) -> OneModel:
        return OneModel(load_bundle(DEFAULT_BUNDLE), self.features)

    @property
    def archivist(self) -> Archivist:
        return Archivist(self.store, ArchiveStore(self.pool), self.blobs, self.models)

    @property
    def registrar(self) -> Registrar:
        return Registrar(self.store, self.blobs, self.models)

    async def exported(self, publisher: str = "acme") -> bytes:
        return b"".join([chunk async for chunk in self.archivist.export(publisher)])

    async def take(self, archive: bytes, publisher: str = "acme") -> Imported:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(archive), 100_000):
                yield archive[start : start + 100_000]

        return await self.archivist.import_(publisher, chunks())

    async def gallery(self) -> tuple[list[Reference], list[bytes], GalleryDelta]:
        """What is registered, its files, and what an index is told."""
        listed = await self.store.list_references("acme", None, 100)
        images = [image for reference in listed for image in reference.images]
        files = [await self.blobs.get(image_key("acme", image.id)) for image in images]
        delta = await self.store.changes_since("acme", self.features.version, 0)
        return listed, files, replace(delta, create_time=listed[0].create_time)


async def installation(postgres: Postgres, features: FeatureExtractor) -> Installation:
    dsn = postgres.create_database()
    await migrate(dsn)
    pool = await open_pool(dsn, max_size=4)
    return Installation(GalleryStore(pool), pool, BlobStore.from_url("memory://"), features)


@pytest_asyncio.fixture
async def here(postgres: Postgres, features: FeatureExtractor) -> AsyncIterator[Installation]:
    """An installation with a gallery of three references, one inactive and one of two images."""
    made = await installation(postgres, features)
    await made.store.create_publisher("acme", "Acme", 0.01)
    await made.store.create_api_key("acme", "key", Role.SCAN, bytes(32), "")
    for number, picture in enumerate(PICTURES[:3]):
        metadata = {"number": str(number), "title": "Straße №"}
        link = f"https://example.com/{number}"
        asked = Registration("acme", f"poster-{number}", link, metadata, picture, "")
        await made.registrar.register(asked)
    await made.registrar.add_image("acme", "poster-1", PICTURES[3])
    await made.store.update_reference("acme", "poster-2", active=False)
    yield made
    await made.pool.close()


@pytest_asyncio.fixture
async def there(postgres: Postgres, features: FeatureExtractor) -> AsyncIterator[Installation]:
    """Another installation, without a publisher."""
    made = await installation(postgres, features)
    yield made
    await made.pool.close()


async def test_another_installation_gets_the_same_gallery(
    here: Installation, there: Installation
) -> None:
    done = await there.take(await here.exported())
    assert (done.written, done.kept, done.failures, done.gallery_version) == (3, 0, {}, 3)
    (references, files, delta), (expected, expected_files, told) = (
        await there.gallery(),
        await here.gallery(),
    )
    assert references == expected
    assert [len(each.images) for each in references] == [1, 2, 1]
    assert files == expected_files
    assert replace(delta, gallery_version=told.gallery_version) == told
    publisher = await there.store.get_publisher("acme")
    assert (publisher.display_name, publisher.false_accept_budget) == ("Acme", 0.01)
    assert await there.store.list_api_keys("acme") == []


async def test_an_archive_of_what_was_imported_is_the_same(
    here: Installation, there: Installation
) -> None:
    archive = await here.exported()
    await there.take(archive)
    assert await there.exported() == archive


async def test_importing_twice_changes_nothing(here: Installation, there: Installation) -> None:
    archive = await here.exported()
    await there.take(archive)
    before = await there.gallery()
    again = await there.take(archive)
    assert (again.written, again.kept, again.gallery_version) == (0, 3, 3)
    assert await there.gallery() == before


async def test_what_is_registered_already_is_left_as_it_is(here: Installation) -> None:
    archive = await here.exported()
    await here.store.update_reference("acme", "poster-0", link="https://example.com/new")
    await Eraser(here.store, ErasureStore(here.pool), here.blobs).delete_reference(
        "acme", "poster-1"
    )
    done = await here.take(archive)
    assert (done.written, done.kept) == (1, 2)
    reference = await here.store.get_reference("acme", "poster-0")
    assert reference.link == "https://example.com/new"
    listed, files, _ = await here.gallery()
    assert [each.id for each in listed] == ["poster-0", "poster-1", "poster-2"]
    assert len(files) == 4


async def test_an_erasure_that_is_still_to_be_done_spares_what_was_imported_since(
    here: Installation,
) -> None:
    archive = await here.exported()
    # As far as the transaction: the files are still to be deleted.
    await here.store.delete_publisher("acme")
    await here.take(archive)
    erasures = ErasureStore(here.pool)
    while await erasures.delete_blobs(here.blobs.delete):
        pass
    _, files, _ = await here.gallery()
    assert sorted(files) == sorted(PICTURES)


async def test_an_import_that_was_cut_off_goes_on(here: Installation, there: Installation) -> None:
    archive = await here.exported()
    second = archive.index(b"references/poster-2")
    with pytest.raises(ArchiveDamaged, match="the rest is missing"):
        await there.take(archive[: second + 5000])
    listed = await there.store.list_references("acme", None, 9)
    assert [each.id for each in listed] == ["poster-0", "poster-1"]
    done = await there.take(archive)
    assert (done.written, done.kept) == (1, 2)
    assert (await there.gallery())[:2] == (await here.gallery())[:2]


async def test_an_import_ends_where_the_quota_leaves_no_room_and_goes_on_with_a_greater_one(
    here: Installation, there: Installation
) -> None:
    archive = await here.exported()
    await there.store.create_publisher("acme", "Acme", 0.01, max_references=1)
    for _ in range(2):
        with pytest.raises(ReferenceQuotaExceeded):
            await there.take(archive)
        listed = await there.store.list_references("acme", None, 9)
        assert [each.id for each in listed] == ["poster-0"]
        assert len(await there.blobs.keys("images")) == 1
    await there.store.update_publisher("acme", max_references=3)
    done = await there.take(archive)
    assert (done.written, done.kept) == (2, 1)


async def test_a_damaged_reference_is_not_written(here: Installation, there: Installation) -> None:
    archive = await here.exported()
    place = archive.index(b'"link": "https://example.com/1"')
    damaged = archive[:place] + archive[place : place + 40].replace(b"/1", b"/2")
    with pytest.raises(ArchiveDamaged, match=r"references/poster-1/reference\.json"):
        await there.take(damaged + archive[place + 40 :])
    listed = await there.store.list_references("acme", None, 9)
    assert [each.id for each in listed] == ["poster-0"]
    assert len(await there.blobs.keys("images")) == 1


async def test_an_archive_of_another_publisher_is_refused(
    here: Installation, there: Installation
) -> None:
    archive = await here.exported()
    await there.store.create_publisher("other", "", 0.001)
    with pytest.raises(ArchiveInvalid, match="it is of publisher 'acme'"):
        await there.take(archive, "other")
    assert await there.store.count_references("other") == 0
    assert [each.id for each in await there.store.list_publishers(None, 9)] == ["other"]


async def test_features_of_another_model_are_extracted_again(
    here: Installation, there: Installation
) -> None:
    archive = await here.exported()
    there.features = Renamed(here.features)
    done = await there.take(archive)
    assert done.written == 3
    delta = await there.store.changes_since("acme", "another model", 0)
    told = await here.store.changes_since("acme", here.features.version, 0)
    # The same network under another name gives the same.
    assert delta.changed == told.changed
    with pytest.raises(ModelUnavailable):
        await there.store.changes_since("acme", here.features.version, 0)


class Renamed(FeatureExtractor):
    """The features of a model under another version."""

    def __init__(self, features: FeatureExtractor) -> None:
        self.__dict__.update(features.__dict__)
        self.version = "another model"


def archive_of(images: dict[str, bytes], model: str = "another model", **changes: object) -> bytes:
    """An archive written by hand, without features: a reference for each image."""
    writer = ArchiveWriter()
    pieces = list(writer.begin(ArchiveHeader(1, "acme", "", 0.001, model)))
    for name, data in images.items():
        reference, files = archived(name, data)
        pieces += writer.add(replace(reference, **changes), files)  # type: ignore[arg-type]
    return b"".join([*pieces, writer.end()])


def archived(name: str, data: bytes) -> tuple[ArchivedReference, dict[str, bytes]]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    image = ArchivedImage(str(uuid4()), 64, 64, hashlib.sha256(data).hexdigest(), now)
    link = "https://example.com/"
    reference = ArchivedReference(name, link, {}, True, now, now, (image,))
    return reference, {f"{image.id}.image": data}


async def test_a_picture_that_this_model_cannot_use_is_told_and_the_rest_imported(
    there: Installation,
) -> None:
    done = await there.take(archive_of({"a": PICTURES[0], "plain": PLAIN, "z": PICTURES[1]}))
    assert done.written == 2
    assert {name: type(error) for name, error in done.failures.items()} == {"plain": ImageTooPlain}
    listed = await there.store.list_references("acme", None, 9)
    assert [each.id for each in listed] == ["a", "z"]
    assert len(await there.blobs.keys("images")) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"link": "javascript:alert(1)"},
        {"metadata": {"k" * 65: "v"}},
        {"id": "../escape"},
        {"id": "UPPER"},
    ],
)
async def test_what_no_registration_may_do_no_archive_may(
    there: Installation, changes: dict[str, object]
) -> None:
    with pytest.raises(ArchiveInvalid):
        await there.take(archive_of({"a": PICTURES[0]}, **changes))
    assert await there.store.count_references("acme") == 0
    assert await there.blobs.keys("images") == []


async def test_unreadable_features_are_refused(
    there: Installation, features: FeatureExtractor
) -> None:
    reference, files = archived("a", PICTURES[0])
    image = reference.images[0].id
    files |= {f"{image}.embedding": b"\0" * 256, f"{image}.local_features": b"nonsense"}
    writer = ArchiveWriter()
    header = ArchiveHeader(1, "acme", "", 0.001, features.version)
    pieces = [*writer.begin(header), *writer.add(reference, files), writer.end()]
    with pytest.raises(ArchiveInvalid, match="cannot be read"):
        await there.take(b"".join(pieces))
    assert await there.store.count_references("acme") == 0


async def test_the_image_of_another_publisher_is_never_touched(
    here: Installation,
) -> None:
    """An archive made by hand names the image of another publisher."""
    theirs = (await here.store.get_reference("acme", "poster-0")).images[0]
    reference, files = archived("mine", PICTURES[3])
    image = replace(reference.images[0], id=theirs.id)
    (data,) = files.values()
    writer = ArchiveWriter()
    pieces = [
        *writer.begin(ArchiveHeader(1, "other", "", 0.001, "m")),
        *writer.add(replace(reference, images=(image,)), {f"{theirs.id}.image": data}),
        writer.end(),
    ]
    before = await here.gallery()
    with pytest.raises(ArchiveInvalid, match="that of another image"):
        await here.take(b"".join(pieces), "other")
    assert await here.gallery() == before
    assert await here.store.count_references("other") == 0


@pytest.mark.parametrize("lost", [True, False])
async def test_a_lost_or_damaged_file_is_told_at_the_export(here: Installation, lost: bool) -> None:
    image = (await here.store.get_reference("acme", "poster-1")).images[1]
    key = image_key("acme", image.id)
    await (here.blobs.delete([key]) if lost else here.blobs.put(key, b"rotten"))
    with pytest.raises(ImageFileDamaged, match=f"'{image.id}' of reference 'poster-1'"):
        await here.exported()


async def test_what_is_deleted_during_an_export_is_left_out(
    here: Installation, there: Installation
) -> None:
    class Slow(BlobStore):
        """Gives time to delete a reference, between the look at its row and at its file."""

        async def get(self, key: str) -> bytes:
            if not deleted.is_set():
                deleted.set()
                await here.registrar.remove_image("acme", "poster-1", second)
                await eraser.delete_reference("acme", "poster-0")
            return await here.blobs.get(key)

    deleted = asyncio.Event()
    second = (await here.store.get_reference("acme", "poster-1")).images[1].id
    eraser = Eraser(here.store, ErasureStore(here.pool), here.blobs)
    archivist = Archivist(
        here.store, ArchiveStore(here.pool), Slow.from_url("memory://"), here.models
    )
    archive = b"".join([chunk async for chunk in archivist.export("acme")])
    await there.take(archive)
    assert (await there.gallery())[:2] == (await here.gallery())[:2]
    listed = await there.store.list_references("acme", None, 9)
    assert [(each.id, len(each.images)) for each in listed] == [("poster-1", 1), ("poster-2", 1)]


async def test_nobody_has_no_archive(here: Installation) -> None:
    with pytest.raises(PublisherNotFound):
        await here.exported("nobody")


async def test_concurrent_imports_write_each_reference_once(
    here: Installation, there: Installation
) -> None:
    archive = await here.exported()
    results = await asyncio.gather(*(there.take(archive) for _ in range(3)))
    assert sum(each.written for each in results) == 3
    assert (await there.gallery())[:2] == (await here.gallery())[:2]
