"""Writes what the chart derives: the schema of the settings, and the README's table of values.

``python helm/generate.py`` after a change of ``server/settings.py``, ``values.yaml`` or
``values.schema.json``; a test fails where that was forgotten.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from server.settings import Settings

CHART = Path(__file__).parent / "imagelink"
SCHEMA, README = CHART / "values.schema.json", CHART / "README.md"
# Secrets come by reference, and folders lie on the volumes that the chart mounts.
NOT_IN_VALUES = {"database_url", "operator_key", "data_dir", "snapshot_dir", "bundle_dir"}
BLOB_URL = "^(s3|gs|az|file)://.+"
BEGIN, END = "<!-- values -->\n", "<!-- end -->\n"
KEPT = ("type", "minimum", "exclusiveMinimum", "maximum", "pattern", "description")


def settings_schema() -> dict[str, Any]:
    """The schema of ``settings`` in the values, from the server's own settings."""
    found = Settings.model_json_schema()["properties"]
    properties = {name: _plain(found[name]) for name in found if name not in NOT_IN_VALUES}
    properties["blob_url"]["pattern"] = BLOB_URL
    return {
        "type": "object",
        "description": "Settings of `python -m server`, under their own names.",
        "additionalProperties": False,
        "required": ["blob_url", "grpc_port", "http_port", "scanners", "shards"],
        "properties": properties,
    }


def schema() -> dict[str, Any]:
    """The whole schema of the values, with the settings as they are now."""
    read: dict[str, Any] = json.loads(SCHEMA.read_text())
    read["properties"]["settings"] = settings_schema()
    return read


def readme() -> str:
    """The README, with the values as they are now."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = ["| value | default | what it is |", "|---|---|---|"]
    rows += [
        f"| `{path}` | {_shown(default)} | {text} |"
        for path, default, text in _rows(schema(), values)
    ]
    return before + BEGIN + "\n".join(rows) + "\n" + END + after


def _rows(part: dict[str, Any], values: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    for name, each in part["properties"].items():
        value = values.get(name) if isinstance(values, dict) else None
        if "properties" in each:
            yield from _rows(each, value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value, each["description"].replace("|", "\\|")


def _shown(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    merged = {**field, **field.get("anyOf", [{}])[0]}
    return {key: merged[key] for key in KEPT if key in merged}


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n")
    README.write_text(readme())
