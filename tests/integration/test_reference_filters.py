"""Which references a filter lets pass, in PostgreSQL."""

import pytest

from indexing.gallery import GalleryStore
from server.filters import parsed_filter
from tests.integration.references import a_reference

METADATA = {
    "autumn": {"room": "3", "tag": ""},
    "spring-1": {"room": "3"},
    "spring-2": {"room": "4", "quote": 'a "b" \\'},
    "sprint": {},
    "winter": {"room": "33", "Room": "3"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["autumn", "spring-1", "spring-2", "sprint", "winter"]),
        ("active = true", ["autumn", "spring-1", "sprint", "winter"]),
        ("active = false", ["spring-2"]),
        ("active = true AND active = false", []),
        ('id = "sprint"', ["sprint"]),
        ('id = "spring"', []),
        ('id = "spring-*"', ["spring-1", "spring-2"]),
        ("id = s* AND id = spring-1", ["spring-1"]),
        ("id = a* AND id = s*", []),
        ("id = *", ["autumn", "spring-1", "spring-2", "sprint", "winter"]),
        ('metadata.room = "3"', ["autumn", "spring-1"]),
        ("metadata.room = 3 AND metadata.room = 4", []),
        ("metadata.Room = 3", ["winter"]),
        ('metadata.tag = ""', ["autumn"]),
        (r'metadata.quote = "a \"b\" \\"', ["spring-2"]),
        ("metadata:room", ["autumn", "spring-1", "spring-2", "winter"]),
        ("metadata:room AND metadata:tag", ["autumn"]),
        ("metadata:none", []),
        ("active = true AND id = s* AND metadata.room = 3", ["spring-1"]),
    ],
)
async def test_references_that_pass_are_listed_and_counted(
    store: GalleryStore, acme: str, text: str, expected: list[str]
) -> None:
    await store.create_publisher("other", "", 0.001)
    await store.register(a_reference("spring-1", "other", metadata={"room": "3"}))
    for name, metadata in METADATA.items():
        await store.register(a_reference(name, metadata=metadata))
    await store.update_reference(acme, "spring-2", active=False)
    conditions = parsed_filter("filter", text)

    assert await store.count_references(acme, conditions) == len(expected)
    assert [each.id for each in await store.list_references(acme, None, 9, conditions)] == expected
    after = await store.list_references(acme, "spring-1", 2, conditions)
    assert [each.id for each in after] == [name for name in expected if name > "spring-1"][:2]
