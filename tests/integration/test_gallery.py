import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from indexing import errors
from indexing.gallery import GalleryStore
from indexing.reference import Role
from tests.integration.references import MODEL, a_reference


class TestPublishers:
    async def test_life_of_a_publisher(self, store: GalleryStore) -> None:
        created = await store.create_publisher("acme", "Acme", 0.001)
        assert (created.suspended, created.gallery_version) == (False, 0)
        assert created.scan_weight == 1
        assert await store.get_publisher("acme") == created

        updated = await store.update_publisher("acme", suspended=True, false_accept_budget=0.01)
        assert updated == replace(created, suspended=True, false_accept_budget=0.01)
        assert (await store.update_publisher("acme", suspended=False)).suspended is False
        assert (await store.update_publisher("acme", display_name="")).display_name == ""
        weighed = await store.update_publisher("acme", scan_weight=7)
        assert weighed.scan_weight == 7
        assert (weighed.max_scans_per_second, weighed.max_references) == (0.0, 0)
        bounded = await store.update_publisher("acme", max_scans_per_second=2.5, max_references=9)
        assert (bounded.max_scans_per_second, bounded.max_references) == (2.5, 9)
        assert await store.update_publisher("acme", suspended=False) == bounded
        assert bounded.max_kept_scans == 0
        consenting = await store.update_publisher("acme", max_kept_scans=7)
        assert consenting.max_kept_scans == 7
        assert await store.list_publishers(None, 9) == [consenting]

        assert (await store.delete_publisher("acme")).references == 0
        with pytest.raises(errors.PublisherNotFound):
            await store.get_publisher("acme")

    async def test_an_id_is_taken_once(self, store: GalleryStore, acme: str) -> None:
        with pytest.raises(errors.PublisherAlreadyExists):
            await store.create_publisher(acme, "Another", 0.001)

    async def test_pages_by_id_in_byte_order(self, store: GalleryStore) -> None:
        for publisher in ["b", "a-b", "ab", "a1"]:
            await store.create_publisher(publisher, "", 0.001)

        first = await store.list_publishers(None, 3)
        second = await store.list_publishers(first[-1].id, 3)

        assert [publisher.id for publisher in first + second] == ["a-b", "a1", "ab", "b"]
        assert await store.publisher_ids() == ["a-b", "a1", "ab", "b"]

    async def test_deleting_leaves_no_row_behind(
        self, store: GalleryStore, acme: str, postgres_dsn: str
    ) -> None:
        await store.create_api_key(acme, "key", Role.SCAN, bytes(32), "")
        await store.register(a_reference("one", request_id="r1"))
        await store.register(a_reference("two"))

        assert (await store.delete_publisher(acme)).references == 2

        tables = [
            "publisher",
            "api_key",
            "reference",
            "reference_image",
            "image_features",
            "change",
            "register_request",
        ]
        with psycopg.connect(postgres_dsn) as connection:
            for table in tables:
                query = psycopg.sql.SQL("select count(*) from {}").format(
                    psycopg.sql.Identifier(table)
                )
                assert connection.execute(query).fetchone() == (0,), table

    async def test_unknown_publisher(self, store: GalleryStore) -> None:
        for call in [
            store.get_publisher("nobody"),
            store.update_publisher("nobody", suspended=True),
            store.delete_publisher("nobody"),
            store.list_api_keys("nobody"),
            store.create_api_key("nobody", "key", Role.SCAN, bytes(32), ""),
            store.register(a_reference("one", "nobody")),
            store.update_reference("nobody", "one", active=False),
            store.delete_reference("nobody", "one"),
            store.changes_since("nobody", MODEL, 0),
        ]:
            with pytest.raises(errors.PublisherNotFound):
                await call
        with pytest.raises(errors.ReferenceNotFound):
            await store.get_reference("nobody", "one")
        assert await store.list_references("nobody", None, 10) == []
        assert await store.count_references("nobody") == 0


class TestApiKeys:
    async def test_finds_a_key_with_its_publisher(self, store: GalleryStore, acme: str) -> None:
        key = await store.create_api_key(acme, "key", Role.PUBLISH, b"s" * 32, "web")
        await store.update_publisher(
            acme, scan_weight=3, max_scans_per_second=0.5, max_kept_scans=7
        )

        found = await store.find_api_key("key")

        assert found is not None
        assert found.key == key
        assert found.key.role is Role.PUBLISH
        assert found.secret_sha256 == b"s" * 32
        assert found.publisher == await store.get_publisher(acme)
        assert await store.find_api_key("other") is None

    async def test_operator_key_has_no_publisher(self, store: GalleryStore) -> None:
        await store.create_api_key(None, "key", Role.OPERATE, bytes(32), "")

        found = await store.find_api_key("key")

        assert found is not None
        assert found.key.publisher is None
        assert found.publisher is None
        assert (await store.revoke_api_key(None, "key")).revoke_time is not None

    async def test_revoking_twice_keeps_the_first_time(
        self, store: GalleryStore, acme: str
    ) -> None:
        await store.create_api_key(acme, "b", Role.SCAN, bytes(32), "")
        await store.create_api_key(acme, "a", Role.SCAN, bytes(32), "")

        revoked = await store.revoke_api_key(acme, "a")

        assert revoked.revoke_time is not None
        assert await store.revoke_api_key(acme, "a") == revoked
        assert [(key.id, key.revoke_time) for key in await store.list_api_keys(acme)] == [
            ("a", revoked.revoke_time),
            ("b", None),
        ]

    async def test_a_key_keeps_when_it_expires(self, store: GalleryStore, acme: str) -> None:
        expiry = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
        made = await store.create_api_key(acme, "a", Role.SCAN, bytes(32), "", expiry)
        endless = await store.create_api_key(acme, "b", Role.SCAN, bytes(32), "")

        found = await store.find_api_key("a")

        assert made.expire_time == expiry
        assert found is not None
        assert found.key == made
        assert endless.expire_time is None
        assert await store.list_api_keys(acme) == [made, endless]
        assert (await store.revoke_api_key(acme, "a")).expire_time == expiry

    async def test_another_publishers_key_is_not_found(
        self, store: GalleryStore, acme: str
    ) -> None:
        await store.create_publisher("other", "", 0.001)
        await store.create_api_key(acme, "key", Role.SCAN, bytes(32), "")

        for publisher in ["other", None]:
            with pytest.raises(errors.ApiKeyNotFound):
                await store.revoke_api_key(publisher, "key")
        assert await store.list_api_keys("other") == []

    async def test_a_key_id_is_taken_once(self, store: GalleryStore, acme: str) -> None:
        await store.create_api_key(acme, "key", Role.SCAN, b"1" * 32, "")
        with pytest.raises(errors.FieldInvalid):
            await store.create_api_key(acme, "key", Role.SCAN, b"2" * 32, "")
        found = await store.find_api_key("key")
        assert found is not None
        assert found.secret_sha256 == b"1" * 32


class TestReferences:
    async def test_register_and_read(self, store: GalleryStore, acme: str) -> None:
        new = a_reference("one", metadata={"title": "Ünï", "empty": ""})

        written = await store.register(new)

        reference = written.reference
        assert written.gallery_version == 1
        assert (reference.publisher, reference.id, reference.link) == (acme, "one", new.link)
        assert reference.metadata == new.metadata
        assert reference.active
        assert reference.images == (new.image,)
        assert reference.create_time == reference.update_time
        assert await store.get_reference(acme, "one") == reference
        assert (await store.get_publisher(acme)).gallery_version == 1

    async def test_a_failed_register_uses_no_version(self, store: GalleryStore, acme: str) -> None:
        await store.register(a_reference("one"))
        with pytest.raises(errors.ReferenceAlreadyExists):
            await store.register(a_reference("one", request_id="r1"))
        assert (await store.register(a_reference("two", request_id="r1"))).gallery_version == 2

    async def test_concurrent_registers_get_gapless_versions(
        self, store: GalleryStore, acme: str
    ) -> None:
        written = await asyncio.gather(
            *(store.register(a_reference(f"r{number}")) for number in range(20))
        )

        assert sorted(one.gallery_version for one in written) == list(range(1, 21))
        assert await store.gallery_versions([acme, "nobody"]) == {acme: 20}
        for one in written:
            # A change is in the log under the very version that the caller was told.
            before = await store.changes_since(acme, MODEL, one.gallery_version - 1)
            assert one.reference.id in {one.reference_id for one in before.changed}
            if one.gallery_version < 20:
                after = await store.changes_since(acme, MODEL, one.gallery_version)
                assert one.reference.id not in {one.reference_id for one in after.changed}

    async def test_of_each_reference_the_log_keeps_the_last_change(
        self, store: GalleryStore, acme: str, postgres_dsn: str
    ) -> None:
        for reference in ("one", "two", "three"):
            await store.register(a_reference(reference))
        await store.update_reference(acme, "one", active=False)
        await store.update_reference(acme, "one", active=True)
        await store.delete_reference(acme, "two")

        with psycopg.connect(postgres_dsn) as connection:
            log = connection.execute(
                "select gallery_version, reference_id from change order by gallery_version"
            ).fetchall()
        assert log == [(3, "three"), (5, "one"), (6, "two")]
        # Whatever version an index has, it learns of all that was written since.
        since = [await store.changes_since(acme, MODEL, version) for version in range(1, 7)]
        assert [{each.reference_id for each in delta.changed} for delta in since] == [
            *[{"one", "three"}] * 2,
            *[{"one"}] * 2,
            *[set()] * 2,
        ]
        assert [delta.removed for delta in since] == [*[["two"]] * 5, []]

    async def test_pages(self, store: GalleryStore, acme: str) -> None:
        for reference in ["c", "a", "b"]:
            await store.register(a_reference(reference))

        first = await store.list_references(acme, None, 2)
        second = await store.list_references(acme, first[-1].id, 2)

        assert [reference.id for reference in first + second] == ["a", "b", "c"]
        assert first[0] == await store.get_reference(acme, "a")
        assert await store.count_references(acme) == 3

    async def test_update_changes_what_is_given(self, store: GalleryStore, acme: str) -> None:
        before = (await store.register(a_reference("one"))).reference

        written = await store.update_reference(acme, "one", active=False, metadata={})

        assert written.gallery_version == 2
        assert written.reference == replace(
            before, active=False, metadata={}, update_time=written.reference.update_time
        )
        assert written.reference.update_time > before.update_time
        assert await store.get_reference(acme, "one") == written.reference
        relinked = await store.update_reference(acme, "one", link="app://x")
        assert (relinked.reference.link, relinked.reference.active) == ("app://x", False)

    async def test_delete(self, store: GalleryStore, acme: str) -> None:
        new = a_reference("one")
        await store.register(new)

        erasure = await store.delete_reference(acme, "one")

        assert (erasure.images, erasure.gallery_version) == (1, 2)
        assert await store.count_images_without_features("any") == 0
        for call in [
            store.get_reference(acme, "one"),
            store.update_reference(acme, "one", active=True),
            store.delete_reference(acme, "one"),
        ]:
            with pytest.raises(errors.ReferenceNotFound):
                await call
        assert (await store.get_publisher(acme)).gallery_version == 2
        assert (await store.register(a_reference("one"))).gallery_version == 3

    async def test_publishers_do_not_see_each_other(self, store: GalleryStore, acme: str) -> None:
        await store.create_publisher("other", "", 0.001)
        mine = a_reference("one", acme, request_id="r1")
        theirs = a_reference("one", "other", request_id="r1", link="https://other.example")

        assert (await store.register(mine)).gallery_version == 1
        assert (await store.register(theirs)).gallery_version == 1
        await store.register(a_reference("two", acme))
        await store.update_reference("other", "one", active=False)

        one = await store.get_reference(acme, "one")
        assert (one.active, one.images) == (True, (mine.image,))
        (listed,) = await store.list_references("other", None, 9)
        assert (listed.id, listed.images) == ("one", (theirs.image,))
        for version in [0, 1]:
            (changed,) = (await store.changes_since("other", MODEL, version)).changed
            assert (changed.link, changed.active) == (theirs.link, False)
            assert [image.image_id for image in changed.images] == [theirs.image.id]
        with pytest.raises(errors.ReferenceNotFound):
            await store.delete_reference("other", "two")
        assert (await store.delete_publisher("other")).references == 1
        assert await store.count_references(acme) == 2


class TestRequestIds:
    async def test_replay_answers_what_the_first_call_did(
        self, store: GalleryStore, acme: str
    ) -> None:
        first = await store.register(a_reference("one", request_id="r1"))
        await store.register(a_reference("two", request_id="r2"))

        # The second call has another generated reference id and image id.
        again = await store.register(a_reference("generated", request_id="r1"))

        assert again == first
        assert await store.find_request(acme, "r1", b"fingerprint") == first
        assert await store.count_references(acme) == 2
        assert (await store.get_publisher(acme)).gallery_version == 2

    async def test_replay_gives_the_reference_as_it_is_now(
        self, store: GalleryStore, acme: str
    ) -> None:
        await store.register(a_reference("one", request_id="r1"))
        updated = await store.update_reference(acme, "one", active=False)

        again = await store.register(a_reference("one", request_id="r1"))

        assert again.reference == updated.reference
        assert again.gallery_version == 1

    async def test_other_content_is_refused(self, store: GalleryStore, acme: str) -> None:
        await store.register(a_reference("one", request_id="r1"))
        with pytest.raises(errors.RequestIdReused):
            await store.register(a_reference("two", request_id="r1", fingerprint=b"other"))
        with pytest.raises(errors.RequestIdReused):
            await store.find_request(acme, "r1", b"other")
        assert await store.find_request(acme, "r2", b"other") is None

    async def test_replay_of_a_deleted_reference(self, store: GalleryStore, acme: str) -> None:
        await store.register(a_reference("one", request_id="r1"))
        await store.delete_reference(acme, "one")
        with pytest.raises(errors.ReferenceNotFound):
            await store.find_request(acme, "r1", b"fingerprint")
        with pytest.raises(errors.ReferenceNotFound):
            await store.register(a_reference("one", request_id="r1"))
        assert (await store.get_publisher(acme)).gallery_version == 2

    async def test_concurrent_calls_register_once(self, store: GalleryStore, acme: str) -> None:
        calls = [a_reference(f"generated-{number}", request_id="r1") for number in range(6)]

        written = await asyncio.gather(*(store.register(call) for call in calls))

        assert len({one.reference.id for one in written}) == 1
        assert {one.gallery_version for one in written} == {1}
        assert await store.count_references(acme) == 1


async def test_a_publisher_created_again_goes_on_from_the_versions_of_the_deleted_one(
    store: GalleryStore, acme: str
) -> None:
    last = (await store.register(a_reference("one"))).gallery_version
    await store.delete_publisher(acme)
    again = await store.create_publisher(acme, "Acme", 0.001)
    assert again.gallery_version > last
    assert (await store.register(a_reference("one"))).gallery_version == again.gallery_version + 1
