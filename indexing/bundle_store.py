"""Where model bundles are kept: the blob store, and a folder of this machine in front of it."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from indexing.blobs import BlobStore
from indexing.bundle import MANIFEST, TENSORS, Bundle, load_bundle
from indexing.errors import BundleInvalid, ModelUnavailable

FILES = (MANIFEST, TENSORS)


def model_key(version: str, file: str) -> str:
    """The key of a file of a model version's bundle."""
    return f"models/{version}/{file}"


class BundleStore:
    """The bundles of model versions, shared by all processes of a machine in ``folder``."""

    def __init__(self, blobs: BlobStore, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder

    async def put(self, version: str, source: Path) -> None:
        """Keeps the bundle in the folder ``source``, which is of this version."""
        for file in FILES:
            data = await asyncio.to_thread((source / file).read_bytes)
            await self._blobs.put(model_key(version, file), data)

    async def delete(self, version: str) -> None:
        """Deletes a version's bundle, also here."""
        await self._blobs.delete([model_key(version, file) for file in FILES])
        await asyncio.to_thread(shutil.rmtree, self._folder / version, ignore_errors=True)

    async def load(self, version: str) -> Bundle:
        """Loads and verifies a version's bundle.

        Raises BundleInvalid where it is damaged, ModelUnavailable where the blob store does not
        give it.
        """
        folder = self._folder / version
        if not folder.exists():
            await self._fetch(version)
        bundle = await asyncio.to_thread(load_bundle, folder)
        if bundle.version != version:
            raise BundleInvalid(path=folder, problem=f"It is of version {bundle.version}.")
        return bundle

    async def _fetch(self, version: str) -> None:
        """Brings a bundle here, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".") as draft:
            whole = Path(draft) / version
            whole.mkdir()
            for file in FILES:
                data = await self._got(version, file)
                await asyncio.to_thread((whole / file).write_bytes, data)
            try:
                os.rename(whole, self._folder / version)
            except OSError:
                # Another process was quicker.
                if not (self._folder / version).exists():
                    raise

    async def _got(self, version: str, file: str) -> bytes:
        try:
            return await self._blobs.get(model_key(version, file))
        except Exception as error:
            # Whatever the blob store raises.
            raise ModelUnavailable(model=version) from error
