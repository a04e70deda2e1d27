import asyncio

import pytest

from indexing import errors
from indexing.gallery import GalleryStore
from indexing.gallery_records import GalleryDelta, ImageFeatures
from tests.integration.references import MODEL, a_reference


def changed_ids(delta: GalleryDelta) -> list[str]:
    return [reference.reference_id for reference in delta.changed]


class TestChangesSince:
    async def test_an_empty_gallery(self, store: GalleryStore, acme: str) -> None:
        publisher = await store.get_publisher(acme)
        expected = GalleryDelta(0, publisher.create_time, True, [], [])
        assert await store.changes_since(acme, MODEL, 0) == expected

    async def test_gives_the_features_byte_for_byte(self, store: GalleryStore, acme: str) -> None:
        new = a_reference("one", metadata={"a": "b"})
        await store.register(new)

        (changed,) = (await store.changes_since(acme, MODEL, 0)).changed

        assert (changed.reference_id, changed.active) == ("one", True)
        assert (changed.link, changed.metadata) == (new.link, {"a": "b"})
        (image,) = changed.images
        assert image.image_id == new.image.id
        assert type(image.embedding) is bytes
        assert image.embedding == new.features[0].embedding
        assert image.local_features == new.features[0].local_features

    async def test_each_reference_once_in_its_present_state(
        self, store: GalleryStore, acme: str
    ) -> None:
        for reference in ["kept", "updated", "deleted", "back"]:
            await store.register(a_reference(reference))
        await store.update_reference(acme, "updated", active=False)
        await store.update_reference(acme, "updated", link="app://last")
        await store.delete_reference(acme, "deleted")
        await store.delete_reference(acme, "back")
        await store.register(a_reference("back"))
        await store.register(a_reference("fleeting"))
        await store.delete_reference(acme, "fleeting")

        delta = await store.changes_since(acme, MODEL, 4)

        assert (delta.gallery_version, delta.complete) == (11, False)
        assert changed_ids(delta) == ["back", "updated"]
        assert (delta.changed[1].link, delta.changed[1].active) == ("app://last", False)
        assert delta.removed == ["deleted", "fleeting"]

    async def test_from_zero_is_the_whole_gallery_without_the_removed(
        self, store: GalleryStore, acme: str
    ) -> None:
        for reference in ["a", "b", "c"]:
            await store.register(a_reference(reference))
        await store.delete_reference(acme, "b")

        delta = await store.changes_since(acme, MODEL, 0)

        assert delta.complete
        assert (changed_ids(delta), delta.removed) == (["a", "c"], [])

    async def test_nothing_new(self, store: GalleryStore, acme: str) -> None:
        await store.register(a_reference("a"))
        delta = await store.changes_since(acme, MODEL, 1)
        assert (delta.gallery_version, delta.complete) == (1, False)
        assert (delta.changed, delta.removed) == ([], [])

    async def test_a_version_of_a_gallery_deleted_since_is_told_apart_by_its_create_time(
        self, store: GalleryStore, acme: str
    ) -> None:
        for reference in ["a", "b"]:
            await store.register(a_reference(reference))
        before = await store.changes_since(acme, MODEL, 0)
        await store.delete_publisher(acme)
        await store.create_publisher(acme, "", 0.001)
        await store.register(a_reference("c"))

        delta = await store.changes_since(acme, MODEL, before.gallery_version)

        assert delta.gallery_version > before.gallery_version
        assert delta.create_time > before.create_time
        everything = await store.changes_since(acme, MODEL, 0)
        assert everything.complete
        assert changed_ids(everything) == ["c"]

    async def test_another_model_version_has_no_features(
        self, store: GalleryStore, acme: str
    ) -> None:
        await store.register(a_reference("a"))
        newer = ImageFeatures("model-2", b"\x00\x3c", b"local")
        await store.register(a_reference("b", features=(newer,)))

        with pytest.raises(errors.ModelUnavailable):
            await store.changes_since(acme, "model-2", 0)
        assert await store.count_images_without_features("model-2") == 1
        assert await store.count_images_without_features("model-3") == 2

    async def test_every_delta_is_one_moment_of_a_gallery_in_motion(
        self, store: GalleryStore, acme: str
    ) -> None:
        """An index that applies deltas while others write equals the gallery at each step."""
        states: dict[int, dict[str, str]] = {0: {}}

        async def write() -> None:
            present: dict[str, str] = {}
            for step in range(60):
                reference = f"r{step % 7}"
                if reference not in present:
                    written = await store.register(a_reference(reference, link=f"app://{step}"))
                    present[reference] = f"app://{step}"
                elif step % 3:
                    written = await store.update_reference(acme, reference, link=f"app://{step}")
                    present[reference] = f"app://{step}"
                else:
                    written = await store.delete_reference(acme, reference)
                    del present[reference]
                states[written.gallery_version] = dict(present)

        writing = asyncio.create_task(write())
        version, index, seen = 0, dict[str, str](), list[tuple[int, dict[str, str]]]()
        while version < 60:
            delta = await store.changes_since(acme, MODEL, version)
            index |= {one.reference_id: one.link for one in delta.changed}
            for reference in delta.removed:
                index.pop(reference, None)
            version = delta.gallery_version
            seen.append((version, dict(index)))
        await writing

        assert len({version for version, _ in seen}) > 5
        for version, index in seen:
            assert index == states[version]

    async def test_large_galleries_come_whole(self, store: GalleryStore, acme: str) -> None:
        ids = [f"r{number:04}" for number in range(1100)]  # more than two round trips' rows
        for start in range(0, len(ids), 100):
            await asyncio.gather(
                *(store.register(a_reference(one)) for one in ids[start : start + 100])
            )
        assert changed_ids(await store.changes_since(acme, MODEL, 0)) == ids
        assert changed_ids(await store.changes_since(acme, MODEL, 1)) != ids
        assert len((await store.changes_since(acme, MODEL, 1)).changed) == 1099


class TestNotifications:
    async def test_every_write_to_a_gallery_is_told(self, store: GalleryStore, acme: str) -> None:
        changes = store.changes()
        assert await anext(changes) is None

        await store.create_publisher("other", "", 0.001)
        await store.register(a_reference("one"))
        await store.register(a_reference("one", "other"))
        await store.update_reference(acme, "one", active=False)
        await store.delete_reference(acme, "one")
        with pytest.raises(errors.ReferenceNotFound):
            await store.delete_reference("other", "nothing")
        await store.delete_publisher("other")

        async with asyncio.timeout(5):
            told = [await anext(changes) for _ in range(5)]
        assert told == [acme, "other", acme, acme, "other"]
        await changes.aclose()

    async def test_a_cancelled_listener_gives_its_connection_back(
        self, store: GalleryStore, acme: str
    ) -> None:
        async def listen(heard: asyncio.Event) -> None:
            async for _ in store.changes():
                heard.set()

        for _ in range(10):  # more often than the pool has connections
            heard = asyncio.Event()
            listening = asyncio.create_task(listen(heard))
            await asyncio.wait_for(heard.wait(), 5)
            listening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await listening
        assert (await store.get_publisher(acme)).id == acme
