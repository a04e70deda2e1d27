"""Galleries as files, from which a shard starts faster than from PostgreSQL.

A file is a checksum and safetensors whose header says whose gallery it is, and of which version. It
is written whole or not at all, and mapped when it is read. One that is damaged, or of another model
version, counts as none: all of it can be built again.
"""

import json
import mmap
import os
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import structlog
from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import save

from indexing.features import Tensors
from indexing.gallery_index import FrozenGallery
from indexing.keypoints import Channel
from indexing.placement import Generation, Part
from indexing.segment import Segment

MAGIC = b"ILGALLERY2"
# Magic, checksum and room up to the next multiple of 8, which safetensors need.
CHECKSUM_AT = len(MAGIC)
TENSORS_AT = 16
STALE_SECONDS = 3600.0
DTYPES = {"U8": np.uint8, "U16": np.uint16, "F16": np.float16, "F32": np.float32, "I64": np.int64}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GalleryIdentity:
    """Whose gallery a snapshot holds, and when.

    ``create_time`` is the publisher's, ``part`` what of the gallery there is.
    """

    publisher: str
    part: Part
    model_version: str
    create_time: datetime
    gallery_version: int
    levels: Mapping[Channel, int]

    @property
    def generation(self) -> Generation:
        """What it is a snapshot of."""
        return Generation(self.publisher, self.part, self.model_version)


_IDENTITY = TypeAdapter(GalleryIdentity)


class SnapshotStore:
    """The snapshots in a folder, a file for each generation of a gallery or part of one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for partial in self._folder.glob("*/*/*.partial"):
            # What a killed process left; a young one may be another's that writes just now.
            if partial.stat().st_mtime < time.time() - STALE_SECONDS:
                partial.unlink(missing_ok=True)

    def write(self, generation: Generation, created: datetime, gallery: FrozenGallery) -> None:
        """Writes a gallery's snapshot over the one before. Raises OSError, leaving that one."""
        identity = GalleryIdentity(*generation, created, gallery.version, gallery.levels)
        header = {"identity": _IDENTITY.dump_json(identity).decode()}
        content = save(gallery.segment.tensors, header)
        path = self._path(generation)
        path.parent.mkdir(parents=True, exist_ok=True)
        checksum = zlib.crc32(content).to_bytes(TENSORS_AT - CHECKSUM_AT)
        with NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            try:
                for piece in (MAGIC, checksum, content):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise

    def read(self, generation: Generation) -> tuple[GalleryIdentity, FrozenGallery] | None:
        """The snapshot of a gallery, or None; a damaged or foreign one is deleted."""
        path = self._path(generation)
        try:
            identity, tensors, mapped = _mapped(path)
            if identity.generation != generation:
                raise ValueError(f"it is of {identity.generation}")
        except FileNotFoundError:
            return None
        except OSError as problem:
            # The file may be as good as ever: too many are open, or its disk does not answer.
            log.warning("snapshot not read", path=str(path), problem=str(problem))
            return None
        except (ValueError, KeyError, TypeError, ValidationError) as problem:
            log.warning("snapshot refused", path=str(path), problem=str(problem))
            path.unlink(missing_ok=True)
            return None
        segment = Segment(tensors, mapped)
        return identity, FrozenGallery(identity.gallery_version, segment, identity.levels)

    def delete(self, publisher: str) -> None:
        """Deletes all of a publisher's snapshots, of every model version."""
        for path in self._folder.glob(f"*/{publisher}/*"):
            path.unlink(missing_ok=True)

    def delete_generation(self, generation: Generation) -> None:
        """Deletes the snapshot of one generation."""
        self._path(generation).unlink(missing_ok=True)

    def _path(self, generation: Generation) -> Path:
        publisher, part, model_version = generation
        return self._folder / model_version / publisher / f"{part.number}-of-{part.count}"


def _mapped(path: Path) -> tuple[GalleryIdentity, Tensors, mmap.mmap]:
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    whole = memoryview(mapped)
    if whole[:CHECKSUM_AT] != MAGIC:
        raise ValueError("it is of another format")
    content = whole[TENSORS_AT:]
    if int.from_bytes(whole[CHECKSUM_AT:TENSORS_AT]) != zlib.crc32(content):
        raise ValueError("it is damaged")
    length = int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8 : 8 + length]))
    identity = _IDENTITY.validate_json(header.pop("__metadata__")["identity"])
    first = TENSORS_AT + 8 + length
    tensors = {
        # The same few names in every file: once in memory is enough.
        sys.intern(name): np.ndarray(
            entry["shape"], DTYPES[entry["dtype"]], whole, first + entry["data_offsets"][0]
        )
        for name, entry in header.items()
    }
    return identity, tensors, mapped
