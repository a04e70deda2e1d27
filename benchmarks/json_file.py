"""The file that a benchmark writes its report to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(file: Path, report: Mapping[str, Any]) -> None:
    """Writes a report, making the file's folder. Raises ValueError for a number that is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
