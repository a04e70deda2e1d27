import pytest

from indexing.errors import FieldInvalid
from indexing.gallery_records import EVERY_REFERENCE, ReferenceFilter
from server.filters import MAX_FILTER, parsed_filter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EVERY_REFERENCE),
        ("  ", EVERY_REFERENCE),
        ("active = true", ReferenceFilter(active=(True,))),
        ("active=false", ReferenceFilter(active=(False,))),
        ("active = true AND active = false", ReferenceFilter(active=(True, False))),
        ('id = "spring"', ReferenceFilter(ids=("spring",))),
        ("id = spring-2", ReferenceFilter(ids=("spring-2",))),
        ('id = "spring-*"', ReferenceFilter(id_prefixes=("spring-",))),
        ("id = s* AND id = sp*", ReferenceFilter(id_prefixes=("s", "sp"))),
        ('id = "*"', ReferenceFilter(id_prefixes=("",))),
        ('metadata.room = "3"', ReferenceFilter(metadata=(("room", "3"),))),
        ("metadata.room=3", ReferenceFilter(metadata=(("room", "3"),))),
        ('metadata."a b" = "c AND d"', ReferenceFilter(metadata=(("a b", "c AND d"),))),
        (r'metadata.q = "a \"b\" \\"', ReferenceFilter(metadata=(("q", 'a "b" \\'),))),
        ('metadata.empty = ""', ReferenceFilter(metadata=(("empty", ""),))),
        ('metadata.star = "a*"', ReferenceFilter(metadata=(("star", "a*"),))),
        ("metadata.größe = länge", ReferenceFilter(metadata=(("größe", "länge"),))),
        ("metadata:room", ReferenceFilter(metadata_keys=("room",))),
        (
            ' metadata:a AND  active = true AND id = "x*" ',
            ReferenceFilter(active=(True,), id_prefixes=("x",), metadata_keys=("a",)),
        ),
    ],
)
def test_conditions_are_read(text: str, expected: ReferenceFilter) -> None:
    assert parsed_filter("filter", text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("spring", "'spring'"),
        ("active = yes", "'active = yes'"),
        ("active = trueish", "'ish'"),
        ("active = true OR active = false", "' OR active = false'"),
        ("active = true active = true", "' active = true'"),
        ("active = true and metadata:a", "' and metadata:a'"),
        ("active = true AND", "' AND'"),
        ("AND active = true", "'AND active = true'"),
        ("NOT active = true", "'NOT active = true'"),
        ("active != true", "'active != true'"),
        ('link = "https://x.example"', "'link = \"https://x.example\"'"),
        ('id = "a*b"', "'id = \"a*b\"'"),
        ('id = "Spring"', "'id = \"Spring\"'"),
        ("id = ", "'id ='"),
        ('metadata.room = "3', "'metadata.room = \"3'"),
        ("metadata. = 3", "'metadata. = 3'"),
        ('metadata.room = "a\\n"', "'metadata.room = \"a\\n\"'"),
        ('metadata.room = "\0"', "'metadata.room = \"\0\"'"),
        ("(active = true)", "'(active = true)'"),
        ("a" * 100, "'" + "a" * 40 + "'"),
    ],
)
def test_what_cannot_be_read_is_shown_with_what_can(text: str, shown: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        parsed_filter("filter", text)
    assert caught.value.details["field"] == "filter"
    assert f"{shown} is no condition; join by AND" in str(caught.value)
    assert 'active = true, id = "spring"' in str(caught.value)


def test_a_filter_has_a_greatest_length() -> None:
    longest = 'metadata.a = "' + "x" * (MAX_FILTER - 15) + '"'
    assert len(parsed_filter("filter", longest).metadata) == 1
    with pytest.raises(FieldInvalid, match=f"at most {MAX_FILTER} characters"):
        parsed_filter("filter", longest + " ")


def test_a_filter_that_is_almost_right_is_refused_fast() -> None:
    with pytest.raises(FieldInvalid):
        parsed_filter("filter", 'metadata.a = "' + '\\"' * (MAX_FILTER // 2 - 10))
