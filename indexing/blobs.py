"""The blob store: whole files by key, in a directory, in memory or in S3."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

STORE_ERRORS = (BaseError, OSError)
"""Whatever a store raises."""


def images_prefix(publisher: str) -> str:
    """Return what the keys of all of a publisher's images begin with."""
    return f"images/{publisher}"


def image_key(publisher: str, image_id: str) -> str:
    """Return the key of a reference image."""
    return f"{images_prefix(publisher)}/{image_id}"


def scans_prefix(publisher: str) -> str:
    """Return what the keys of the photos of all of a publisher's kept scans begin with."""
    return f"scans/{publisher}"


def scan_key(publisher: str, scan_id: str) -> str:
    """Return the key of the photo of a kept scan."""
    return f"{scans_prefix(publisher)}/{scan_id}"


class BlobStore:
    """Files of bytes by key. A key is a relative path with ``/`` between its parts.

    A write is seen whole or not at all, also in a directory (a temporary file, renamed).
    A directory's writes survive the process; against power loss they are as safe as its
    file system makes them.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open ``file:///path`` (made if missing), ``memory://`` or ``s3://bucket/prefix``.

        S3 takes endpoint and credentials from the usual ``AWS_*`` environment variables.
        Raises ValueError or one of STORE_ERRORS for another URL.
        """
        if url.startswith("file://"):
            # The clean-up leaves no empty directory behind that still names a publisher.
            return cls(LocalStore.from_url(url, mkdir=True, automatic_cleanup=True))
        return cls(from_url(url))

    async def put(self, key: str, data: bytes) -> None:
        """Write ``data``, over what was there."""
        await obstore.put_async(self._store, key, data)

    async def get(self, key: str) -> bytes:
        """Return the bytes under ``key``. Raises FileNotFoundError."""
        result = await obstore.get_async(self._store, key)
        return bytes(await result.bytes_async())

    async def put_file(self, key: str, file: Path) -> None:
        """Write what is in ``file``, without holding it in memory, over what was there."""
        await obstore.put_async(self._store, key, file)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes under ``key`` in parts. Raises FileNotFoundError."""
        result = await obstore.get_async(self._store, key)
        async for part in result.stream():
            yield bytes(part)

    async def folders(self) -> list[str]:
        """Return the first parts of all keys that have more than one, in order."""
        found = await asyncio.to_thread(obstore.list_with_delimiter, self._store)
        return sorted(str(prefix) for prefix in found["common_prefixes"])

    async def keys(self, prefix: str) -> list[str]:
        """Return all keys below a prefix, a path of whole parts."""
        # In a thread, as a process that ends just after an asynchronous listing aborts.
        return await asyncio.to_thread(
            lambda: [blob["path"] for page in obstore.list(self._store, prefix) for blob in page]
        )

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete what is under each of ``keys``; one that is not there is no error."""
        try:
            await obstore.delete_async(self._store, list(keys))
        except FileNotFoundError:
            # A directory stops at the first missing file; S3 does not know this error.
            for key in keys:
                with suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, key)
