"""The quota of references, on PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest

from indexing import errors
from indexing.blobs import BlobStore
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_records import NewImage, Written
from indexing.reference import Publisher
from server.registration import Registrar, Registration
from tests.integration.references import MODEL, a_reference


async def bounded(store: GalleryStore, acme: str, references: int) -> Publisher:
    return await store.update_publisher(acme, max_references=references)


async def registered(store: GalleryStore, publisher: str = "acme") -> list[str]:
    return [each.id for each in await store.list_references(publisher, None, 100)]


async def test_of_concurrent_registrations_exactly_the_quota_succeeds(
    store: GalleryStore, acme: str, postgres_dsn: str
) -> None:
    await bounded(store, acme, 5)
    # As another process would, it shares no transactions with the first.
    pool = await open_pool(postgres_dsn, max_size=4)
    stores = (store, GalleryStore(pool))
    outcomes = await asyncio.gather(
        *(stores[number % 2].register(a_reference(f"r{number}")) for number in range(20)),
        return_exceptions=True,
    )
    await pool.close()

    written = [each for each in outcomes if isinstance(each, Written)]
    refused = [each for each in outcomes if not isinstance(each, Written)]
    assert sorted(each.gallery_version for each in written) == [1, 2, 3, 4, 5]
    assert await registered(store) == sorted(each.reference.id for each in written)
    assert {type(each) for each in refused} == {errors.ReferenceQuotaExceeded}
    assert len(refused) == 15
    delta = await store.changes_since(acme, MODEL, 0)
    assert (len(delta.changed), delta.gallery_version) == (5, 5)


async def test_a_refused_registration_leaves_nothing_and_may_be_sent_again(
    store: GalleryStore, acme: str
) -> None:
    await bounded(store, acme, 1)
    await store.register(a_reference("one"))
    two = a_reference("two", request_id="request")
    with pytest.raises(errors.ReferenceQuotaExceeded, match="'acme', 1 references, leaves no room"):
        await store.register(two)
    assert await store.find_request(acme, "request", two.fingerprint) is None
    assert await store.count_images_without_features(MODEL) == 0
    assert (await store.get_publisher(acme)).gallery_version == 1

    await bounded(store, acme, 2)
    assert (await store.register(two)).gallery_version == 2


async def test_an_image_beyond_the_quota_is_neither_decoded_nor_stored(
    store: GalleryStore, acme: str
) -> None:
    await bounded(store, acme, 1)
    asked = Registration(acme, "one", "https://x", {}, b"no image", "request")
    await store.register(
        a_reference("one", request_id=asked.request_id, fingerprint=asked.fingerprint())
    )
    blobs = BlobStore.from_url("memory://")
    registrar = Registrar(store, blobs, None)  # type: ignore[arg-type]
    for name in ("two", ""):
        with pytest.raises(errors.ReferenceQuotaExceeded):
            await registrar.register(replace(asked, reference_id=name, request_id=name))
    assert (await registrar.register(asked)).gallery_version == 1
    assert await blobs.keys("images") == []


async def test_what_is_there_may_change_where_there_is_no_room(
    store: GalleryStore, acme: str
) -> None:
    new = a_reference("one", request_id="request")
    first = await store.register(new)
    await store.register(a_reference("two"))
    await bounded(store, acme, 1)

    assert await registered(store) == ["one", "two"]
    assert await store.register(new) == first
    with pytest.raises(errors.ReferenceAlreadyExists):
        await store.register(a_reference("two"))
    other = a_reference("one")
    added = await store.add_image(NewImage(acme, "one", other.image, other.features))
    assert len(added.reference.images) == 2
    assert not (await store.update_reference(acme, "one", active=False)).reference.active

    await store.delete_reference(acme, "two")
    with pytest.raises(errors.ReferenceQuotaExceeded):
        await store.register(a_reference("three"))
    await store.delete_reference(acme, "one")
    await store.register(a_reference("three"))
    assert await registered(store) == ["three"]


async def test_publishers_have_quotas_of_their_own(store: GalleryStore, acme: str) -> None:
    await bounded(store, acme, 1)
    await store.create_publisher("other", "", 0.001)
    for name in ("one", "two", "three"):
        await store.register(a_reference(name, "other"))
    await store.register(a_reference("one"))
    with pytest.raises(errors.ReferenceQuotaExceeded):
        await store.register(a_reference("two"))
    assert len(await registered(store, "other")) == 3
