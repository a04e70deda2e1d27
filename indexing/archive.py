"""A gallery as one file: a tar archive, written and read as a stream.

Its members come in groups, each led by a ``SHA256SUMS`` of those that follow, in the form of
``sha256sum``:

- ``SHA256SUMS``, ``imagelink.json``: the header;
- for each reference ``references/ID/``: ``SHA256SUMS``, ``reference.json``, and for each of its
  images ``IMAGE.image`` (the file as it was registered), ``IMAGE.embedding`` and
  ``IMAGE.local_features`` (see ``ImageFeatures``, under the header's model version);
- ``manifest.json``: how many there are, and the SHA-256 of all ``SHA256SUMS`` in their order.

So a damaged reference is noticed before it is used, and a lost one at the end. The order matters:
an archive that was unpacked and packed again may be refused.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from tarfile import BLOCKSIZE, USTAR_FORMAT, HeaderError, TarInfo
from typing import TypeVar

from pydantic import AwareDatetime, PositiveInt, TypeAdapter, ValidationError

from indexing.errors import ArchiveDamaged, ArchiveInvalid
from indexing.gallery_records import MAX_IMAGES
from indexing.image import MAX_BYTES

FORMAT = 1
SUMS, HEADER, REFERENCE, MANIFEST = (
    "SHA256SUMS",
    "imagelink.json",
    "reference.json",
    "manifest.json",
)
MAX_FILES = 1 + 3 * MAX_IMAGES

T = TypeVar("T")
Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ArchiveHeader:
    """What an archive is of. ``model_version`` is that of its features."""

    format: int
    publisher: str
    display_name: str
    false_accept_budget: float
    model_version: str


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image of a reference; ``width`` and ``height`` in pixels, ``sha256`` in hexadecimal."""

    id: str
    width: PositiveInt
    height: PositiveInt
    sha256: str
    create_time: AwareDatetime


@dataclass(frozen=True, slots=True)
class ArchivedReference:
    """A reference, its images in their order."""

    id: str
    link: str
    metadata: Mapping[str, str]
    active: bool
    create_time: AwareDatetime
    update_time: AwareDatetime
    images: tuple[ArchivedImage, ...]


@dataclass(frozen=True, slots=True)
class ArchiveManifest:
    """What an archive has in all; ``sha256`` in hexadecimal."""

    references: int
    images: int
    sha256: str


class ArchiveWriter:
    """Makes the bytes of an archive, piece by piece."""

    def __init__(self) -> None:
        self._references = 0
        self._images = 0
        self._digest = hashlib.sha256()

    def begin(self, header: ArchiveHeader) -> Iterator[bytes]:
        """The first bytes."""
        return self._group("", {HEADER: _json(header)})

    def add(self, reference: ArchivedReference, files: Files) -> Iterator[bytes]:
        """The bytes of a reference with the files of its images, by their names in the archive."""
        self._references += 1
        self._images += len(reference.images)
        members = {REFERENCE: _json(reference)} | dict(files)
        return self._group(f"references/{reference.id}/", members)

    def end(self) -> bytes:
        """The last bytes."""
        manifest = ArchiveManifest(self._references, self._images, self._digest.hexdigest())
        return _member(MANIFEST, _json(manifest)) + bytes(2 * BLOCKSIZE)

    def _group(self, folder: str, files: Files) -> Iterator[bytes]:
        lines = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
        sums = "".join(lines).encode()
        self._digest.update(sums)
        yield _member(folder + SUMS, sums)
        for name, data in files.items():
            yield _member(folder + name, data)


class ArchiveReader:
    """Reads an archive from its bytes: ``header`` first, then ``references`` to their end.

    Raises ArchiveInvalid for what is no archive of this format, and ArchiveDamaged where bytes
    changed or are missing.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._references = 0
        self._images = 0
        self._digest = hashlib.sha256()

    async def header(self) -> ArchiveHeader:
        """What the archive is of."""
        try:
            name, sums = await self._member()
        except ArchiveDamaged:
            raise ArchiveInvalid(problem="it is not an archive of ImageLink.") from None
        if name != SUMS:
            raise ArchiveInvalid(problem="it is not an archive of ImageLink.")
        described = (await self._files("", sums)).get(HEADER, b"{}")
        written = _parsed(HEADER, dict[str, object], described).get("format")
        if written != FORMAT:
            problem = f"its format is {written}, and this server reads format {FORMAT}."
            raise ArchiveInvalid(problem=problem)
        return _parsed(HEADER, ArchiveHeader, described)

    async def references(self) -> AsyncIterator[tuple[ArchivedReference, Files]]:
        """Each reference with its files by name, all of them as they were written."""
        while True:
            name, data = await self._member()
            if name == MANIFEST:
                await self._finish(data)
                return
            folder, _, last = name.rpartition("/")
            if last != SUMS or not folder.startswith("references/"):
                raise ArchiveDamaged(member=name, problem="it is out of its order.")
            files = await self._files(f"{folder}/", data)
            yield self._checked(folder, files), files

    def _checked(self, folder: str, files: Files) -> ArchivedReference:
        name = f"{folder}/{REFERENCE}"
        reference = _parsed(name, ArchivedReference, files.get(REFERENCE, b""))
        if reference.id != folder.removeprefix("references/"):
            raise ArchiveInvalid(problem=f"{name} tells of another reference.")
        if not 0 < len(reference.images) <= MAX_IMAGES:
            raise ArchiveInvalid(problem=f"{name} has {len(reference.images)} images.")
        for image in reference.images:
            data = files.get(f"{image.id}.image")
            if data is None or hashlib.sha256(data).hexdigest() != image.sha256:
                raise ArchiveInvalid(problem=f"{name} names an image that is not there.")
        self._references += 1
        self._images += len(reference.images)
        return reference

    async def _files(self, folder: str, sums: bytes) -> dict[str, bytes]:
        """The members that a ``SHA256SUMS`` leads."""
        self._digest.update(sums)
        files: dict[str, bytes] = {}
        for line in sums.decode(errors="replace").splitlines()[: MAX_FILES + 1]:
            expected, _, wanted = line.partition("  ")
            name, data = await self._member()
            if name != folder + wanted or hashlib.sha256(data).hexdigest() != expected:
                raise ArchiveDamaged(member=name, problem="it is not what was written.")
            files[wanted] = data
        if len(files) > MAX_FILES:
            raise ArchiveInvalid(problem=f"{folder} has too many files.")
        return files

    async def _finish(self, data: bytes) -> None:
        manifest = _parsed(MANIFEST, ArchiveManifest, data)
        if manifest != ArchiveManifest(self._references, self._images, self._digest.hexdigest()):
            raise ArchiveDamaged(member=MANIFEST, problem="references are missing or repeated.")
        async for chunk in self._chunks:
            self._buffer += chunk.strip(b"\0")
        if self._buffer.strip(b"\0"):
            raise ArchiveDamaged(member=MANIFEST, problem="something follows it.")

    async def _member(self) -> tuple[str, bytes]:
        try:
            info = TarInfo.frombuf(await self._take(BLOCKSIZE), "utf-8", "strict")
        except (HeaderError, UnicodeError) as error:
            raise ArchiveDamaged(member="a header", problem=f"{error}.") from None
        if info.size > MAX_BYTES:
            raise ArchiveInvalid(problem=f"{info.name} is larger than {MAX_BYTES} bytes.")
        data = await self._take(info.size)
        await self._take(-info.size % BLOCKSIZE)
        return info.name, data

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                self._buffer += await anext(self._chunks)
            except StopAsyncIteration:
                raise ArchiveDamaged(member="the end", problem="the rest is missing.") from None
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _member(name: str, data: bytes) -> bytes:
    info = TarInfo(name)
    info.size = len(data)
    return info.tobuf(USTAR_FORMAT) + data + bytes(-len(data) % BLOCKSIZE)


def _json(value: object) -> bytes:
    return TypeAdapter(type(value)).dump_json(value, indent=2) + b"\n"


def _parsed(member: str, kind: type[T], data: bytes) -> T:
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArchiveInvalid(problem=f"{member} {where}: {first['msg']}.") from None
