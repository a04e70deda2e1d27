"""The files of a backup, each with its SHA-256, in a folder of a store of backups.

``20261128T021700Z/``
    ``database.dump``       of ``pg_dump``, as of one moment
    ``images/…, models/…``  the blobs that it names, under the keys that they have
    ``erasures.jsonl``      the erasure receipts there were when the blobs had been copied
    ``SHA256SUMS-00000`` …  the sums of all these, as ``sha256sum --check`` reads them
    ``manifest.json``       the sums of the files of sums, and what else a restore needs to know
    ``manifest.json.sha256``  its sum, written last: without it a backup is not complete

``erasures.jsonl`` beside the folders has the receipts of all times.
"""

import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from indexing.blobs import BlobStore
from indexing.errors import (
    BackupDamaged,
    BackupInvalid,
    BackupNewer,
    DatabaseNewer,
    TargetNotEmpty,
)
from indexing.migrations import refuse_unknown

FORMAT = 1
DUMP, ERASURES = "database.dump", "erasures.jsonl"
MANIFEST, SEAL = "manifest.json", "manifest.json.sha256"
NAME = re.compile(r"\d{8}T\d{6}Z")


def backup_name(time: datetime) -> str:
    """Return the name of a backup begun at a time of UTC; they sort as the times do."""
    return time.strftime("%Y%m%dT%H%M%SZ")


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is: the schema's migrations, the sums of the files of sums, and their counts.

    ``gone_images`` and ``gone_models`` are in the dump, but were deleted before their files were
    copied. The files under ``damaged`` keys were lost or damaged already.
    """

    format: int
    migrations: tuple[str, ...]
    sums: Mapping[str, str]
    files: int
    gone_images: tuple[str, ...]
    gone_models: tuple[str, ...]
    damaged: tuple[str, ...]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read a manifest. Raises ValueError for another format, or for none."""
        read = json.loads(text)
        if not isinstance(read, dict) or read.get("format") != FORMAT:
            raise ValueError("it is of a format that this version does not know.")
        lists = ("migrations", "gone_images", "gone_models", "damaged")
        return cls(**read | {name: tuple(read[name]) for name in lists})


class BackupFolder:
    """One backup in a store of them."""

    def __init__(self, store: BlobStore, name: str) -> None:
        self.store = store
        self.name = name

    def key(self, file: str) -> str:
        """Return where a file of the backup is in the store."""
        return f"{self.name}/{file}"

    async def begin(self) -> None:
        """Raises TargetNotEmpty where something has that name already."""
        if await self.store.keys(self.name):
            raise TargetNotEmpty(target=self.name)

    async def put_sums(self, number: int, sums: Mapping[str, str]) -> tuple[str, str]:
        """Write the sums of some files; return the name and the sum of that."""
        name = f"SHA256SUMS-{number:05d}"
        text = "".join(f"{digest}  {file}\n" for file, digest in sums.items()).encode()
        await self.store.put(self.key(name), text)
        return name, hashlib.sha256(text).hexdigest()

    async def finish(self, manifest: Manifest) -> None:
        """Write what makes it complete."""
        text = json.dumps(asdict(manifest), indent=2).encode()
        await self.store.put(self.key(MANIFEST), text)
        seal = f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()
        await self.store.put(self.key(SEAL), seal)

    async def is_complete(self) -> bool:
        """Whether it was finished."""
        try:
            await self.store.get(self.key(SEAL))
        except FileNotFoundError:
            return False
        return True

    async def manifest(self) -> Manifest:
        """Read what it is. Raises BackupInvalid, BackupDamaged and BackupNewer."""
        try:
            seal = (await self.store.get(self.key(SEAL))).decode(errors="replace")
        except FileNotFoundError:
            problem = f"{SEAL} is missing. Name the folder of one that was finished."
            raise BackupInvalid(url=self.name, problem=problem) from None
        text = await self.read(MANIFEST, seal.split(" ")[0])
        try:
            manifest = Manifest.parse(text)
            refuse_unknown(manifest.migrations)
        except ValueError as error:
            raise BackupInvalid(url=self.name, problem=str(error)) from None
        except DatabaseNewer as error:
            raise BackupNewer(**error.details) from None
        return manifest

    async def sums(self, manifest: Manifest) -> AsyncIterator[dict[str, str]]:
        """Yield the sums of the files, some thousands at a time. Raises BackupDamaged."""
        for name, digest in manifest.sums.items():
            lines = (await self.read(name, digest)).decode().splitlines()
            yield {file: sum_ for sum_, _, file in (line.partition("  ") for line in lines)}

    async def read(self, file: str, digest: str) -> bytes:
        """Return what is in a file. Raises BackupDamaged where that is not what it was."""
        try:
            data = await self.store.get(self.key(file))
        except FileNotFoundError:
            raise BackupDamaged(file=self.key(file), problem="It is missing.") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise BackupDamaged(file=self.key(file), problem="It was changed.")
        return data

    async def fetch(self, file: str, digest: str, into: Path = Path(os.devnull)) -> None:
        """Copy a file here, or only verify it. Raises BackupDamaged where it is not what it was."""
        found = hashlib.sha256()
        try:
            with into.open("wb") as opened:
                async for part in self.store.stream(self.key(file)):
                    found.update(part)
                    opened.write(part)
        except FileNotFoundError:
            raise BackupDamaged(file=self.key(file), problem="It is missing.") from None
        if found.hexdigest() != digest:
            raise BackupDamaged(file=self.key(file), problem="It was changed.")


async def backups(store: BlobStore) -> list[str]:
    """Return the names of all backups in a store, also of unfinished ones, the oldest first."""
    return [name for name in await store.folders() if NAME.fullmatch(name)]


async def forget_old(store: BlobStore, keep: int) -> list[str]:
    """Delete all but the newest ``keep`` finished backups, and what is older than these.

    Returns the names of the deleted ones.
    """
    names = await backups(store)
    complete = [name for name in names if await BackupFolder(store, name).is_complete()]
    if len(complete) <= keep:
        return []
    old = [name for name in names if name < complete[-keep]]
    for name in old:
        # First what makes it complete: one that is deleted in part is not offered any more.
        await store.delete([f"{name}/{SEAL}"])
        await store.delete(await store.keys(name))
    return old


async def read_receipts(store: BlobStore, key: str) -> dict[str, str]:
    """Return erasure receipts as lines of JSON, by their ids; none where there is no such file.

    Raises BackupDamaged where it has something else.
    """
    try:
        text = (await store.get(key)).decode(errors="replace")
    except FileNotFoundError:
        return {}
    try:
        return {json.loads(line)["id"]: line for line in text.splitlines()}
    except (ValueError, KeyError, TypeError):
        raise BackupDamaged(file=key, problem="It is no list of receipts.") from None


def receipt_file(receipts: Mapping[str, str]) -> bytes:
    """Return what ``read_receipts`` reads, in the order of the requests."""
    return "".join(f"{receipts[each]}\n" for each in sorted(receipts)).encode()


def pages(items: Sequence[str], size: int) -> list[Sequence[str]]:
    """Cut into pages of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
