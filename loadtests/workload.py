"""What a load test sends and expects: a folder that ``python -m loadtests prepare`` writes."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INDEX = "workload.json"
"""The file with the keys and the expected answers; the images lie in folders beside it."""


class WorkloadError(Exception):
    """The folder holds no workload: its message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to scan and the resource name of the one reference that it shows."""

    file: bytes = field(repr=False)
    shows: str


@dataclass(frozen=True, slots=True)
class Publisher:
    """A publisher with registered references and photos of them."""

    id: str
    scan_key: str = field(repr=False)
    publish_key: str = field(repr=False)
    references: frozenset[str]
    """The resource names of what was registered."""
    photos: tuple[Photo, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """All that users send: the more popular publishers come first."""

    target: str
    publishers: tuple[Publisher, ...]
    strangers: tuple[bytes, ...]
    """Photos of things that no publisher registers."""
    new_pictures: tuple[bytes, ...]
    """Pictures to register for a while; no photo shows them."""


def write_workload(workload: Workload, folder: Path) -> None:
    """Writes a workload; only the owner may read the file with the keys."""
    index = {
        "target": workload.target,
        "publishers": [_publisher_entry(each, folder) for each in workload.publishers],
        "strangers": _write_images(workload.strangers, folder, "strangers"),
        "new_pictures": _write_images(workload.new_pictures, folder, "new_pictures"),
    }
    file = folder / INDEX
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(json.dumps(index, indent=2) + "\n")


def read_workload(folder: Path) -> Workload:
    """Reads a workload. Raises WorkloadError where there is none."""
    try:
        index = json.loads((folder / INDEX).read_text())
        return Workload(
            target=index["target"],
            publishers=tuple(_publisher(entry, folder) for entry in index["publishers"]),
            strangers=_read_images(index["strangers"], folder),
            new_pictures=_read_images(index["new_pictures"], folder),
        )
    except (OSError, ValueError, KeyError) as error:
        raise WorkloadError(
            f"There is no whole workload in {folder} ({error}): write one with "
            f"python -m loadtests prepare --output {folder}"
        ) from error


def _publisher_entry(publisher: Publisher, folder: Path) -> dict[str, Any]:
    files = _write_images((photo.file for photo in publisher.photos), folder, publisher.id)
    return {
        "id": publisher.id,
        "scan_key": publisher.scan_key,
        "publish_key": publisher.publish_key,
        "references": sorted(publisher.references),
        "photos": [
            {"file": file, "shows": photo.shows}
            for file, photo in zip(files, publisher.photos, strict=True)
        ],
    }


def _publisher(entry: dict[str, Any], folder: Path) -> Publisher:
    photos = (
        Photo((folder / each["file"]).read_bytes(), each["shows"]) for each in entry["photos"]
    )
    return Publisher(
        id=entry["id"],
        scan_key=entry["scan_key"],
        publish_key=entry["publish_key"],
        references=frozenset(entry["references"]),
        photos=tuple(photos),
    )


def _write_images(images: Iterable[bytes], folder: Path, name: str) -> list[str]:
    (folder / name).mkdir(parents=True, exist_ok=True)
    files = []
    for number, image in enumerate(images, start=1):
        files.append(f"{name}/{number:03}.jpg")
        (folder / files[-1]).write_bytes(image)
    return files


def _read_images(files: Sequence[str], folder: Path) -> tuple[bytes, ...]:
    return tuple((folder / file).read_bytes() for file in files)
