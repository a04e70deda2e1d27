"""The flows of a backup and of a restore: the database first, then the files that it names."""

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from indexing.backup import (
    DUMP,
    ERASURES,
    FORMAT,
    BackupFolder,
    Manifest,
    backup_name,
    file_sha256,
    pages,
    read_receipts,
    receipt_file,
)
from indexing.blobs import BlobStore, image_key
from indexing.bundle_store import FILES, model_key
from indexing.errors import DatabaseOutdated, TargetNotEmpty
from indexing.gallery_backup import (
    Moment,
    StoredImage,
    erasure_lines,
    finish_restore,
    has_tables,
    load_dump,
    moment,
    present_images,
    present_models,
)
from indexing.migrations import check, migrate

T = TypeVar("T")

PAGE = 10_000
AT_ONCE = 32
BLOBS = ("images", "models", "scans")


@dataclass(frozen=True, slots=True)
class Storage:
    """What is backed up, or restored into: a database, the blobs, and PostgreSQL's programs."""

    database_url: str
    blobs: BlobStore
    tools: Path


@dataclass(slots=True)
class _Copied:
    """What became of the files so far: the sums of the files of sums, and what had no file."""

    sums: dict[str, str] = field(default_factory=dict)
    files: int = 0
    missing_images: list[StoredImage] = field(default_factory=list)
    missing_models: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did; ``lacking`` are keys whose files the backup does not have either."""

    files: int
    erasures: int
    lacking: tuple[str, ...]


async def back_up(source: Storage, target: BlobStore) -> tuple[str, Manifest]:
    """Writes a backup of everything into a new folder of ``target``, while others go on writing.

    Returns the folder's name, and what is in it. Raises DatabaseNewer, DatabaseOutdated,
    DatabaseToolFailed, DatabaseUnavailable and TargetNotEmpty.
    """
    if lacking := await check(source.database_url):
        raise DatabaseOutdated(names=", ".join(lacking))
    folder = BackupFolder(target, backup_name(datetime.now(UTC)))
    await folder.begin()
    copied = _Copied()
    with tempfile.TemporaryDirectory() as work:
        listing = Path(work) / "images"
        async with moment(source.database_url) as now:
            migrations, models = await now.migrations(), await now.models()
            await now.dump(source.tools, Path(work) / DUMP)
            await _list_images(now, listing)
        # Copying takes long, and while the moment lasts PostgreSQL cleans nothing up.
        await _copy_dump(folder, copied, Path(work) / DUMP)
        for images in _listed(listing):
            await _copy_images(source.blobs, folder, copied, images)
    await _copy_models(source.blobs, folder, copied, models)
    gone = await _gone(source, copied)
    await _add_sums(folder, copied, {ERASURES: await _copy_receipts(source, folder)})
    manifest = Manifest(FORMAT, tuple(migrations), copied.sums, copied.files, *gone)
    await folder.finish(manifest)
    return folder.name, manifest


async def export_receipts(database_url: str, target: BlobStore) -> int:
    """Writes all erasure receipts beside the backups in ``target``; returns how many.

    Those that the file there has already stay. Raises DatabaseUnavailable.
    """
    receipts = await read_receipts(target, ERASURES) | await erasure_lines(database_url)
    await target.put(ERASURES, receipt_file(receipts))
    return len(receipts)


async def erase_again(database_url: str, source: BlobStore) -> int:
    """Applies the receipts beside the backups to a database that was restored by other means.

    Servers delete the files when they run again. Returns how many receipts the database did not
    have. Raises DatabaseUnavailable.
    """
    receipts = await read_receipts(source, ERASURES)
    return await finish_restore(database_url, [receipts[each] for each in sorted(receipts)])


async def restore(folder: BackupFolder, target: Storage) -> Restored:
    """Fills an empty database and an empty blob store from a backup.

    Everything is verified before anything is written. What the receipts in the backup and beside it
    say was erased, is not restored. Raises BackupDamaged, BackupInvalid, BackupNewer,
    DatabaseToolFailed, DatabaseUnavailable and TargetNotEmpty.
    """
    manifest = await folder.manifest()
    await _refuse_full(target)
    async for sums in folder.sums(manifest):
        await _each(sums, folder.fetch)
    receipts = await read_receipts(folder.store, ERASURES)
    receipts |= await read_receipts(folder.store, folder.key(ERASURES))
    with tempfile.TemporaryDirectory() as work:
        dump = Path(work) / DUMP
        await folder.fetch(DUMP, await _dump_digest(folder, manifest), dump)
        await load_dump(target.database_url, target.tools, dump)
    await migrate(target.database_url)
    erased = await finish_restore(
        target.database_url,
        [receipts[each] for each in sorted(receipts)],
        manifest.gone_images,
        manifest.gone_models,
    )
    files = await _restore_blobs(folder, manifest, target)
    return Restored(files, erased, manifest.damaged)


# Backing up


async def _copy_dump(folder: BackupFolder, copied: _Copied, file: Path) -> None:
    await folder.store.put_file(folder.key(DUMP), file)
    await _add_sums(folder, copied, {DUMP: await asyncio.to_thread(file_sha256, file)})


async def _list_images(now: Moment, listing: Path) -> None:
    with listing.open("w") as opened:
        async for image in now.images():
            opened.write(f"{image.publisher}\t{image.id}\t{image.sha256}\n")


def _listed(listing: Path) -> Iterator[list[StoredImage]]:
    with listing.open() as opened:
        while lines := list(islice(opened, PAGE)):
            yield [StoredImage(*line.rstrip("\n").split("\t")) for line in lines]


async def _add_sums(folder: BackupFolder, copied: _Copied, sums: Mapping[str, str]) -> None:
    name, digest = await folder.put_sums(len(copied.sums), sums)
    copied.sums[name] = digest
    copied.files += len(sums)


async def _copy_images(
    blobs: BlobStore, folder: BackupFolder, copied: _Copied, images: Sequence[StoredImage]
) -> None:
    sums: dict[str, str] = {}

    async def copy(key: str, image: StoredImage) -> None:
        digest = await _copy(blobs, folder, key, image.sha256)
        if digest is None:
            copied.missing_images.append(image)
        elif digest != image.sha256:
            copied.damaged.append(key)
        else:
            sums[key] = digest

    await _each({image_key(image.publisher, image.id): image for image in images}, copy)
    await _add_sums(folder, copied, dict(sorted(sums.items())))


async def _copy_models(
    blobs: BlobStore, folder: BackupFolder, copied: _Copied, models: Sequence[str]
) -> None:
    sums: dict[str, str] = {}
    for version in models:
        digests = {key: await _copy(blobs, folder, key) for key in _model_keys(version)}
        sums |= {key: digest for key, digest in digests.items() if digest is not None}
        if None in digests.values():
            copied.missing_models.append(version)
    await _add_sums(folder, copied, sums)


async def _copy(
    blobs: BlobStore, folder: BackupFolder, key: str, expected: str | None = None
) -> str | None:
    """The SHA-256 of a blob, copied where it is as ``expected``; None where it is not there."""
    try:
        data = await blobs.get(key)
    except FileNotFoundError:
        return None
    digest = hashlib.sha256(data).hexdigest()
    if expected in (None, digest):
        await folder.store.put(folder.key(key), data)
    return digest


async def _copy_receipts(source: Storage, folder: BackupFolder) -> str:
    """Writes the receipts into the backup, and beside it; returns the sum of the former."""
    text = receipt_file(await erasure_lines(source.database_url))
    await folder.store.put(folder.key(ERASURES), text)
    await export_receipts(source.database_url, folder.store)
    return hashlib.sha256(text).hexdigest()


async def _gone(
    source: Storage, copied: _Copied
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The images and models that were deleted meanwhile, and the keys of lost or damaged files."""
    ids = [image.id for image in copied.missing_images]
    there = await present_images(source.database_url, ids)
    models = await present_models(source.database_url)
    lost = [
        image_key(each.publisher, each.id) for each in copied.missing_images if each.id in there
    ]
    lost += [key for each in copied.missing_models if each in models for key in _model_keys(each)]
    return (
        tuple(sorted({*ids} - there)),
        tuple(sorted({*copied.missing_models} - models)),
        tuple(sorted([*copied.damaged, *lost])),
    )


def _model_keys(version: str) -> list[str]:
    return [model_key(version, file) for file in FILES]


# Restoring


async def _refuse_full(target: Storage) -> None:
    if await has_tables(target.database_url):
        raise TargetNotEmpty(target="The database")
    for folder in await target.blobs.folders():
        if folder in BLOBS:
            raise TargetNotEmpty(target="The blob store")


async def _dump_digest(folder: BackupFolder, manifest: Manifest) -> str:
    return (await anext(folder.sums(manifest)))[DUMP]


async def _restore_blobs(folder: BackupFolder, manifest: Manifest, target: Storage) -> int:
    """Copies the files that the restored database names; returns how many."""
    count = 0

    async def copy(key: str, digest: str) -> None:
        await target.blobs.put(key, await folder.read(key, digest))

    async for sums in folder.sums(manifest):
        wanted = await _named(sums, target.database_url)
        await _each(wanted, copy)
        count += len(wanted)
    return count


async def _named(sums: Mapping[str, str], database_url: str) -> dict[str, str]:
    """Those of some files that are of an image or a model of the database."""
    models = await present_models(database_url)
    ids = {key.rpartition("/")[2] for key in sums if key.startswith("images/")}
    images = await present_images(database_url, ids)
    named = {
        "images": lambda key: key.rpartition("/")[2] in images,
        "models": lambda key: key.split("/")[1] in models,
    }
    return {
        key: digest
        for key, digest in sums.items()
        if (kind := key.partition("/")[0]) in named and named[kind](key)
    }


async def _each(items: Mapping[str, T], work: Callable[[str, T], Awaitable[None]]) -> None:
    """Works on a few of the files at once. The first error ends it."""
    for page in pages(list(items), AT_ONCE):
        await asyncio.gather(*(work(key, items[key]) for key in page))
