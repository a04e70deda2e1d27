"""Filters of lists: a part of the language of AIP-160."""

import re

from indexing.errors import FieldInvalid
from indexing.gallery_records import ReferenceFilter

MAX_FILTER = 4096
ALLOWED = (
    'join by AND what you need of: active = true, id = "spring", id = "spring-*", '
    'metadata.room = "3", metadata:room.'
)

_QUOTED = r'"(?:[^"\\\0]|\\["\\])*"'
_TEXT = rf"[\w-]+|{_QUOTED}"
_CONDITION = re.compile(
    rf"""
    active \s*=\s* (?P<active>true|false)
    | id \s*=\s* (?P<id>[a-z0-9-]*\* | [a-z0-9-]+ | "[a-z0-9-]*\*?")
    | metadata \s*\.\s* (?P<entry>{_TEXT}) \s*=\s* (?P<value>{_TEXT})
    | metadata \s*:\s* (?P<key>{_TEXT})
    """,
    re.VERBOSE,
)
_AND = re.compile(r"\s+AND\s+")


def parsed_filter(field: str, text: str) -> ReferenceFilter:
    """The conditions of a filter; an empty one has none. Raises FieldInvalid, which says what may be.

    ``condition {AND condition}``, each of one of the five forms in ``ALLOWED``.
    """
    if len(text) > MAX_FILTER:
        raise FieldInvalid(field=field, problem=f"give at most {MAX_FILTER} characters.")
    found = _conditions(field, text.strip())
    ids = [_unquoted(each["id"]) for each in found if each["id"] is not None]
    return ReferenceFilter(
        active=tuple(each["active"] == "true" for each in found if each["active"] is not None),
        ids=tuple(each for each in ids if not each.endswith("*")),
        id_prefixes=tuple(each[:-1] for each in ids if each.endswith("*")),
        metadata=tuple(
            (_unquoted(each["entry"]), _unquoted(each["value"]))
            for each in found
            if each["entry"] is not None
        ),
        metadata_keys=tuple(_unquoted(each["key"]) for each in found if each["key"] is not None),
    )


def _conditions(field: str, text: str) -> list[dict[str, str]]:
    """The named groups of each condition."""
    found: list[dict[str, str]] = []
    position = 0
    while position < len(text):
        joint = _AND.match(text, position) if found else None
        condition = _CONDITION.match(text, joint.end() if joint else position)
        if condition is None or (found and joint is None):
            wrong = text[position : position + 40]
            raise FieldInvalid(field=field, problem=f"'{wrong}' is no condition; {ALLOWED}")
        found.append(condition.groupdict())
        position = condition.end()
    return found


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
