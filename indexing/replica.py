"""A shard that keeps itself true to PostgreSQL: loads at first use, follows the changes."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from indexing.errors import (
    DatabaseUnavailable,
    GalleryVersionNotReached,
    ImageLinkError,
    PublisherNotFound,
)
from indexing.features import embeddings_from, reference_features
from indexing.gallery import GalleryStore
from indexing.gallery_records import ChangedReference, GalleryDelta
from indexing.shard import IndexedReference, Query, SearchResult, Shard

WATERMARK_SECONDS = 2.0


@dataclass(slots=True)
class _Loaded:
    version: int
    create_time: datetime


class ShardReplica:
    """One replica of a shard: its galleries in memory, and how far each has followed."""

    def __init__(self, shard: Shard, store: GalleryStore, model_version: str) -> None:
        self._shard = shard
        self._store = store
        self._model_version = model_version
        self._loaded: dict[str, _Loaded] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        """Answers each query, or says why its publisher's gallery cannot.

        A gallery that is not loaded, or behind ``min_gallery_version``, is brought up to date
        first. A version was committed before anybody could name it, so one look is enough.
        """
        return await asyncio.gather(*(self._search(query) for query in queries))

    async def follow(self) -> None:
        """Keeps the loaded galleries up to date, without end.

        Notifications wake it; comparing versions every two seconds is the net under them.
        """
        await asyncio.gather(self._follow_notifications(), self._follow_watermarks())

    async def _search(self, query: Query) -> SearchResult | ImageLinkError:
        try:
            await self._reach(query.publisher, query.min_gallery_version)
        except ImageLinkError as error:
            return error
        return await asyncio.to_thread(self._shard.search, query)

    async def _reach(self, publisher: str, version: int) -> None:
        if not self._has(publisher, version):
            async with self._locks[publisher]:
                if not self._has(publisher, version):
                    await self._refresh(publisher)
        if not self._has(publisher, version):
            raise GalleryVersionNotReached(version=self._loaded[publisher].version, wanted=version)

    def _has(self, publisher: str, version: int) -> bool:
        loaded = self._loaded.get(publisher)
        return loaded is not None and loaded.version >= version

    async def _refresh(self, publisher: str) -> None:
        loaded = self._loaded.get(publisher)
        since = loaded.version if loaded else 0
        try:
            delta = await self._store.changes_since(publisher, self._model_version, since)
            if loaded and loaded.create_time != delta.create_time and not delta.complete:
                delta = await self._store.changes_since(publisher, self._model_version, 0)
        except PublisherNotFound:
            self._loaded.pop(publisher, None)
            self._shard.drop(publisher)
            raise
        await asyncio.to_thread(self._apply, publisher, delta)
        self._loaded[publisher] = _Loaded(delta.gallery_version, delta.create_time)

    def _apply(self, publisher: str, delta: GalleryDelta) -> None:
        active = [self._indexed(changed) for changed in delta.changed if changed.active]
        inactive = [changed.reference_id for changed in delta.changed if not changed.active]
        if delta.complete:
            self._shard.replace(publisher, delta.gallery_version, active)
        else:
            gone = [*delta.removed, *inactive]
            self._shard.apply(publisher, delta.gallery_version, active, gone)

    def _indexed(self, changed: ChangedReference) -> IndexedReference:
        images = tuple(
            reference_features(
                embeddings_from(self._model_version, [image.embedding]), image.local_features
            )
            for image in changed.images
        )
        return IndexedReference(changed.reference_id, changed.link, changed.metadata, images)

    async def _follow_notifications(self) -> None:
        async for publisher in self._store.changes():
            await self._catch_up([publisher] if publisher else list(self._loaded))

    async def _follow_watermarks(self) -> None:
        while True:
            await asyncio.sleep(WATERMARK_SECONDS)
            with suppress(DatabaseUnavailable):
                known = dict(self._loaded)
                current = await self._store.gallery_versions(list(known))
                await self._catch_up(
                    [name for name, loaded in known.items() if current.get(name) != loaded.version]
                )

    async def _catch_up(self, publishers: Sequence[str]) -> None:
        for publisher in publishers:
            if publisher in self._loaded:
                with suppress(DatabaseUnavailable, PublisherNotFound):
                    async with self._locks[publisher]:
                        await self._refresh(publisher)
