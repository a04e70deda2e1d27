"""The galleries of the publishers placed on one shard."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from cachetools import LRUCache

from indexing.bundle import Bundle
from indexing.descriptor_index import CoarseQuantizers
from indexing.errors import BundleInvalid, ModelUnavailable
from indexing.gallery_index import GalleryIndex
from indexing.keypoints import Channel
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference


class Shard:
    """The galleries, or parts of such, that are loaded here, all under one model version.

    With ``others`` it shares what their versions have alike: building it takes most of a load.
    """

    def __init__(self, bundle: Bundle, others: Iterable["Shard"] = ()) -> None:
        self.model_version = bundle.version
        self._codebooks = bundle.codebooks
        self._quantizers = {channel: self._made(channel, others) for channel in Channel}
        self._galleries: dict[str, GalleryIndex] = {}

    def _made(self, channel: Channel, others: Iterable["Shard"]) -> CoarseQuantizers:
        codebook = self._codebooks[channel]
        for other in others:
            if codebook.equals(other._codebooks[channel]):
                return other._quantizers[channel]
        return codebook.quantizers()

    async def generation(self, model_version: str) -> GalleryIndex:
        """An empty gallery of a model version. Raises ModelUnavailable for another than this."""
        if model_version != self.model_version:
            raise ModelUnavailable(model=model_version)
        return self.empty_gallery()

    def empty_gallery(self) -> GalleryIndex:
        """A gallery of this model version that is nobody's yet."""
        return GalleryIndex(self.model_version, self._quantizers)

    def replace(self, publisher: str, version: int, references: Sequence[IndexedReference]) -> None:
        """Sets a publisher's whole gallery."""
        gallery = self.empty_gallery()
        gallery.apply(version, references, ())
        self._galleries[publisher] = gallery

    def apply(
        self,
        publisher: str,
        version: int,
        changed: Sequence[IndexedReference],
        removed: Sequence[str],
    ) -> None:
        """Brings a publisher's gallery, which must be here, from its version to a later one."""
        self._galleries[publisher].apply(version, changed, removed)

    def search(self, query: Query) -> SearchResult:
        """Searches the query's publisher's gallery, which must be loaded."""
        return self._galleries[query.publisher].search([query])[0]


class ModelShards:
    """Empty galleries of several model versions, each made of its bundle once."""

    def __init__(self, load: Callable[[str], Awaitable[Bundle]]) -> None:
        self._load = load
        # At most two versions serve at once.
        self._shards: LRUCache[str, Shard] = LRUCache(2)
        self._lock = asyncio.Lock()

    async def generation(self, model_version: str) -> GalleryIndex:
        """An empty gallery of a model version. Raises ModelUnavailable."""
        async with self._lock:
            if model_version not in self._shards:
                try:
                    bundle = await self._load(model_version)
                except BundleInvalid as error:
                    raise ModelUnavailable(model=model_version) from error
                others = list(self._shards.values())
                self._shards[model_version] = await asyncio.to_thread(Shard, bundle, others)
        return self._shards[model_version].empty_gallery()
