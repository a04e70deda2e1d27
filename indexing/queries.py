"""The named statements of ``sql/queries.sql``."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def _named(text: str) -> dict[str, bytes]:
    _, *parts = _NAME.split(text)
    return {name: body.strip().encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}


QUERIES = _named(files("indexing").joinpath("sql", "queries.sql").read_text("utf-8"))
"""Each statement by its name; parameters are written ``%(name)s``."""
