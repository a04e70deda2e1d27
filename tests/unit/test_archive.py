"""The form of an archive: what was written is read, and nothing else is."""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from indexing.archive import (
    FORMAT,
    ArchivedImage,
    ArchivedReference,
    ArchiveHeader,
    ArchiveReader,
    ArchiveWriter,
    Files,
)
from indexing.errors import ArchiveDamaged, ArchiveInvalid

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
HEADER = ArchiveHeader(FORMAT, "acme", "Acme", 0.001, "model-1")


def a_reference(name: str, count: int = 1) -> tuple[ArchivedReference, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    images = []
    for number in range(count):
        data = f"picture {name} {number}".encode() * 100
        image = str(UUID(int=number))
        images.append(ArchivedImage(image, 64, 48, hashlib.sha256(data).hexdigest(), NOW))
        files |= {f"{image}.image": data, f"{image}.embedding": b"\0" * 16}
        files[f"{image}.local_features"] = b""
    metadata = {"title": "Straße №", "empty": ""}
    link = f"https://example.com/{name}"
    return ArchivedReference(name, link, metadata, False, NOW, NOW, tuple(images)), files


REFERENCES = [a_reference("one"), a_reference("x" * 63, 3)]


def archived(references: Iterable[tuple[ArchivedReference, Files]] = REFERENCES) -> bytes:
    writer = ArchiveWriter()
    pieces = list(writer.begin(HEADER))
    for reference, files in references:
        pieces += writer.add(reference, files)
    return b"".join([*pieces, writer.end()])


async def chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(
    data: bytes, size: int = 1000
) -> tuple[ArchiveHeader, list[tuple[ArchivedReference, Files]]]:
    reader = ArchiveReader(chunks(data, size))
    header = await reader.header()
    return header, [found async for found in reader.references()]


@pytest.mark.parametrize("size", [1, 512, 10_000_000])
async def test_what_was_written_is_read(size: int) -> None:
    header, references = await read(archived(), size)
    assert header == HEADER
    for (reference, files), (found, found_files) in zip(REFERENCES, references, strict=True):
        assert found == reference
        assert {name: found_files[name] for name in files} == files


async def test_an_empty_gallery_has_an_archive() -> None:
    assert await read(archived([])) == (HEADER, [])


def test_common_tools_read_and_verify_it(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archived())) as tar:
        tar.extractall(tmp_path, filter="data")
    sums = list(tmp_path.rglob("SHA256SUMS"))
    assert len(sums) == 1 + len(REFERENCES)
    for file in sums:
        subprocess.run(["sha256sum", "--check", "--strict", file.name], cwd=file.parent, check=True)


async def test_every_changed_byte_is_noticed() -> None:
    whole = archived([a_reference("one")])
    content = _content(whole)
    for position in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[position] ^= 0x20
        if _content(bytes(changed)) == content:
            continue  # Between the files, where nothing stands.
        with pytest.raises((ArchiveDamaged, ArchiveInvalid)):
            await read(bytes(changed))


def _content(data: bytes) -> "list[tuple[str, bytes]] | None":
    """The names and bytes of what is in a tar file; None where it cannot be read."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    except (tarfile.TarError, AttributeError):
        return None


async def test_a_damaged_reference_is_noticed_before_it_is_used() -> None:
    whole = archived()
    link = whole.index(b"https://example.com/xxx")
    changed = whole[:link] + b"https://evil" + whole[link + 12 :]
    reader = ArchiveReader(chunks(changed))
    await reader.header()
    references = reader.references()
    assert (await anext(references))[0].id == "one"
    with pytest.raises(ArchiveDamaged, match=r"references/x{63}/reference\.json"):
        await anext(references)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
async def test_a_cut_off_archive_is_damaged(kept: float) -> None:
    whole = archived()
    with pytest.raises(ArchiveDamaged):
        await read(whole[: int(len(whole) * kept)])


async def test_a_missing_a_repeated_and_a_foreign_reference_are_noticed() -> None:
    one, two = REFERENCES
    first, second = archived([one]), archived([one, two])
    # Where the archives part: after the first reference.
    end = next(n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    end -= end % 512
    start = len(archived([])) - len(ArchiveWriter().end())
    missing = second[:start] + second[end:]
    repeated = second[:end] + second[start:end] + second[end:]
    for changed in (missing, repeated, second[:end] + first[end:] + b"more"):
        with pytest.raises(ArchiveDamaged, match=r"manifest\.json"):
            await read(changed)


@pytest.mark.parametrize("data", [b"", b"PK\3\4" + bytes(2000), bytes(2000), b"text"])
async def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveInvalid, match="not an archive of ImageLink"):
        await read(data)


async def test_a_tar_file_of_something_else_is_refused() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO(b""))
    with pytest.raises(ArchiveInvalid, match="not an archive of ImageLink"):
        await read(file.getvalue())


async def test_another_format_is_told() -> None:
    writer = ArchiveWriter()
    data = b"".join(writer.begin(ArchiveHeader(FORMAT + 1, "acme", "", 0.001, "m")))
    with pytest.raises(ArchiveInvalid, match=f"format is {FORMAT + 1}"):
        await read(data + writer.end())


async def test_a_reference_without_its_image_is_refused() -> None:
    reference, files = a_reference("one")
    without = {name: data for name, data in files.items() if not name.endswith(".image")}
    with pytest.raises(ArchiveInvalid, match="an image that is not there"):
        await read(archived([(reference, without)]))


async def test_too_many_images_are_refused() -> None:
    with pytest.raises(ArchiveInvalid):
        await read(archived([a_reference("one", 17)]))


async def test_an_oversized_file_is_refused_before_it_is_read() -> None:
    reference, files = a_reference("one")
    whole = archived([(reference, files | {"zeros": bytes(9_000_000)})])
    with pytest.raises(ArchiveInvalid, match="larger than"):
        # Its bytes are not even there.
        await read(whole[: whole.index(b"references/one/zeros") + 512])
