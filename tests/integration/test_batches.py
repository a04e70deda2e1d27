"""Registrations that share transactions."""

import asyncio

import psycopg
import pytest

from indexing import errors
from indexing.gallery import GalleryStore
from indexing.gallery_records import NewReference, Written
from tests.integration.references import MODEL, a_reference


async def register_all(
    store: GalleryStore, news: list[NewReference]
) -> list[Written | BaseException]:
    return await asyncio.gather(*map(store.register, news), return_exceptions=True)


async def test_several_rows_go_in_one_transaction(
    store: GalleryStore, acme: str, postgres_dsn: str
) -> None:
    await register_all(store, [a_reference(f"r{number}") for number in range(40)])
    with psycopg.connect(postgres_dsn) as connection:
        count = connection.execute("select count(distinct xmin::text) from reference").fetchone()
    assert count is not None
    # The first goes alone, and the rest while it is written.
    assert count[0] <= 4


async def test_each_has_a_version_of_its_own_without_gaps(store: GalleryStore, acme: str) -> None:
    written = await register_all(store, [a_reference(f"r{number}") for number in range(150)])
    versions = [each.gallery_version for each in written if isinstance(each, Written)]
    assert sorted(versions) == list(range(1, 151))
    assert (await store.get_publisher(acme)).gallery_version == 150
    delta = await store.changes_since(acme, MODEL, 149)
    assert [each.reference_id for each in delta.changed] == [f"r{versions.index(150)}"]


async def test_one_that_fails_uses_no_version_and_stops_no_other(
    store: GalleryStore, acme: str
) -> None:
    await store.register(a_reference("taken"))
    await store.register(a_reference("before", request_id="before"))
    news = [
        a_reference("a"),
        a_reference("taken"),
        a_reference("b"),
        a_reference("twice"),
        a_reference("twice"),
        a_reference("generated", request_id="before"),
        a_reference("c", request_id="before", fingerprint=b"other"),
        a_reference("d"),
    ]

    outcomes = await register_all(store, news)

    kinds = [type(each) for each in outcomes]
    assert kinds == [
        Written,
        errors.ReferenceAlreadyExists,
        Written,
        Written,
        errors.ReferenceAlreadyExists,
        Written,
        errors.RequestIdReused,
        Written,
    ]
    versions = [each.gallery_version for each in outcomes if isinstance(each, Written)]
    assert versions == [3, 4, 5, 2, 6]
    names = [each.id for each in await store.list_references(acme, None, 100)]
    assert names == ["a", "b", "before", "d", "taken", "twice"]


async def test_a_request_id_twice_in_one_transaction_registers_once(
    store: GalleryStore, acme: str
) -> None:
    await store.register(a_reference("first"))
    outcomes = await register_all(
        store, [a_reference(f"generated-{n}", request_id="r1") for n in range(5)]
    )
    assert {each.gallery_version for each in outcomes if isinstance(each, Written)} == {2}
    assert await store.count_references(acme) == 2


async def test_publishers_do_not_share_transactions(store: GalleryStore, acme: str) -> None:
    await store.create_publisher("other", "", 0.001)
    news = [a_reference(f"r{number}", ("acme", "other")[number % 2]) for number in range(20)]
    news.append(a_reference("one", "nobody"))

    outcomes = await register_all(store, news)

    assert isinstance(outcomes.pop(), errors.PublisherNotFound)
    assert all(isinstance(each, Written) for each in outcomes)
    assert await store.gallery_versions([acme, "other"]) == {acme: 10, "other": 10}


async def test_indexes_are_told_once_of_a_transaction(store: GalleryStore, acme: str) -> None:
    changes = store.changes()
    assert await anext(changes) is None

    async def told_before(last: str) -> list[str | None]:
        told: list[str | None] = []
        while last not in told:
            told.append(await anext(changes))
        return told

    listening = asyncio.ensure_future(told_before("other"))
    await register_all(store, [a_reference(f"r{number}") for number in range(50)])
    await store.create_publisher("other", "", 0.001)
    await store.register(a_reference("last", "other"))
    told = await asyncio.wait_for(listening, 10)
    await changes.aclose()
    assert 1 <= told.count(acme) <= 4


async def test_an_unexpected_error_fails_its_transaction_alone(
    store: GalleryStore, acme: str
) -> None:
    # NUL cannot be stored; nothing that a caller may send has it.
    broken = a_reference("broken", link="a\0b")
    with pytest.raises(psycopg.Error):
        await store.register(broken)
    assert (await store.register(a_reference("one"))).gallery_version == 1
