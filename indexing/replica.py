"""A shard that keeps itself true to PostgreSQL: loads at first use, follows the changes."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from indexing.errors import (
    DatabaseUnavailable,
    GalleryVersionNotReached,
    ImageLinkError,
    ModelUnavailable,
    PublisherNotFound,
)
from indexing.features import embeddings_from, reference_features
from indexing.gallery import GalleryStore
from indexing.gallery_erasures import ErasureStore, Unconfirmed
from indexing.gallery_index import GalleryIndex
from indexing.gallery_records import ChangedReference, GalleryDelta
from indexing.keypoints import Channel
from indexing.placement import Generation
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference
from indexing.snapshot import SnapshotStore

WATERMARK_SECONDS = 2.0
GATHER_SECONDS = 0.1
SNAPSHOT_SECONDS = 10.0
# A snapshot is written anew when so large a share of its references came or went.
SNAPSHOT_CHANGES = 0.05
# Between two writings of one gallery lies so many times what the first took.
SNAPSHOT_REST = 20.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Loaded:
    gallery: GalleryIndex
    create_time: datetime
    # Whether there is a snapshot, and when the next may be written.
    saved: bool = False
    next_save: float = 0.0
    # Bytes of the gallery when it was last held.
    nbytes: int = 0
    used: float = field(default_factory=time.monotonic)


class ShardReplica:
    """One replica of a shard: its galleries in memory, and how far each has followed.

    ``empty_gallery`` gives the index of a model version before anything is in it, or raises
    ModelUnavailable. Galleries take at most ``memory_budget`` bytes: those not used for longest make
    room. ``name`` is this process's own: under it, it confirms that it lacks what was erased.
    """

    def __init__(
        self,
        empty_gallery: Callable[[str], Awaitable[GalleryIndex]],
        store: GalleryStore,
        snapshots: SnapshotStore,
        erasures: ErasureStore,
        name: str,
        memory_budget: int,
    ) -> None:
        self._empty_gallery = empty_gallery
        self._store = store
        self._snapshots = snapshots
        self._erasures = erasures
        self._name = name
        self._memory_budget = memory_budget
        self._loaded: dict[Generation, _Loaded] = {}
        # The publishers of whose changes notifications told, and whether there are any.
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self._locks: defaultdict[Generation, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        """Answers each query, or says why its publisher's gallery cannot.

        A gallery that is not loaded, or behind ``min_gallery_version``, is brought up to date
        first. A version was committed before anybody could name it, so one look is enough.
        """
        reached = await self._reached(queries)
        # One way into a thread and back for the whole batch: it costs as much as a small search.
        return await asyncio.to_thread(_search_together, queries, reached)

    async def warm(self, generations: Iterable[Generation]) -> None:
        """Loads galleries, or parts of some, before scans ask for them; unknown ones are none."""
        for generation in generations:
            with suppress(PublisherNotFound):
                await self._load(generation, 0)

    async def prepare(self, former: str, new: str) -> None:
        """Loads the galleries of one model version that are loaded under another.

        Only as far as there is memory: the former ones are in use. Raises ModelUnavailable.
        """
        for generation in [each for each in self._loaded if each.model_version == former]:
            loaded = self._loaded.get(generation)
            beside = generation._replace(model_version=new)
            if loaded is None or beside in self._loaded:
                continue
            if self._nbytes + loaded.nbytes <= self._memory_budget:
                await self.warm([beside])

    async def follow(self) -> None:
        """Keeps the loaded galleries up to date, without end.

        Notifications wake it; comparing versions every two seconds is the net under them.
        """
        await asyncio.gather(
            self._listen(),
            self._follow_notifications(),
            self._follow_watermarks(),
            self._write_snapshots(),
        )

    # Loading

    async def _reached(self, queries: Sequence[Query]) -> list[GalleryIndex | ImageLinkError]:
        """The gallery that each query asks, or why there is none."""
        at_hand = [self._at_hand(query) for query in queries]
        there = [gallery for gallery in at_hand if gallery is not None]
        if len(there) == len(queries):
            # Nearly always: as many tasks would cost as much as a small search.
            return [*there]
        return await asyncio.gather(*(self._reach(query) for query in queries))

    def _at_hand(self, query: Query) -> GalleryIndex | None:
        loaded = self._loaded.get(_asked(query))
        if loaded is None or loaded.gallery.version < query.min_gallery_version:
            return None
        loaded.used = time.monotonic()
        return loaded.gallery

    async def _reach(self, query: Query) -> GalleryIndex | ImageLinkError:
        try:
            loaded = await self._load(_asked(query), query.min_gallery_version)
        except ImageLinkError as error:
            return error
        loaded.used = time.monotonic()
        if loaded.gallery.version < query.min_gallery_version:
            return GalleryVersionNotReached(
                version=loaded.gallery.version, wanted=query.min_gallery_version
            )
        return loaded.gallery

    async def _load(self, place: Generation, version: int) -> _Loaded:
        """Loads a gallery, or brings it up to date: once, whoever waits for it."""
        async with self._locks[place]:
            loaded = self._loaded.get(place)
            if loaded is None or loaded.gallery.version < version:
                loaded = await self._refresh(place)
        return loaded

    async def _refresh(self, place: Generation) -> _Loaded:
        if not self._loaded:
            # Erasures from now on wait for this process.
            with suppress(DatabaseUnavailable):
                await self._erasures.see_replica(self._name)
        loaded = self._loaded.get(place) or await self._thawed(place)
        try:
            loaded = await self._updated(place, loaded)
        except DatabaseUnavailable:
            if loaded is None:
                raise
        except PublisherNotFound:
            self._loaded.pop(place, None)
            await asyncio.to_thread(self._snapshots.delete, place.publisher)
            raise
        except ModelUnavailable:
            # It cannot follow any more, and must not hold for longer what is erased.
            self._loaded.pop(place, None)
            await asyncio.to_thread(self._snapshots.delete_generation, place)
            raise
        self._hold(place, loaded)
        return loaded

    async def _updated(self, place: Generation, loaded: _Loaded | None) -> _Loaded:
        publisher, model_version = place.publisher, place.model_version
        since = loaded.gallery.version if loaded else 0
        delta = await self._store.changes_since(publisher, model_version, since)
        if loaded and loaded.create_time != delta.create_time and not delta.complete:
            delta = await self._store.changes_since(publisher, model_version, 0)
        gone = delta.removed or any(not changed.active for changed in delta.changed)
        if loaded and (gone or delta.complete):
            # A snapshot must not hold for longer what is erased.
            await asyncio.to_thread(self._snapshots.delete, publisher)
            loaded.saved = False
        if loaded is None or delta.complete:
            loaded = _Loaded(await self._empty_gallery(model_version), delta.create_time)
        await asyncio.to_thread(_apply, loaded.gallery, delta, place)
        return loaded

    async def _thawed(self, place: Generation) -> _Loaded | None:
        found = await asyncio.to_thread(self._snapshots.read, place)
        if found is None:
            return None
        identity, frozen = found
        gallery = await self._empty_gallery(place.model_version)
        await asyncio.to_thread(gallery.thaw, frozen)
        return _Loaded(gallery, identity.create_time, saved=True)

    @property
    def _nbytes(self) -> int:
        return sum(each.nbytes for each in self._loaded.values())

    def _hold(self, newest: Generation, loaded: _Loaded) -> None:
        """Keeps a gallery, and drops those not used for longest until all fit the budget."""
        loaded.nbytes = loaded.gallery.nbytes
        self._loaded[newest] = loaded
        excess = self._nbytes - self._memory_budget
        if excess <= 0:
            return
        for place in sorted(self._loaded, key=lambda place: self._loaded[place].used):
            if excess <= 0:
                break
            if place != newest and not self._locks[place].locked():
                excess -= self._loaded.pop(place).nbytes
                del self._locks[place]

    # Following

    async def _listen(self) -> None:
        async for publisher in self._store.changes():
            self._told |= {publisher} if publisher else {each.publisher for each in self._loaded}
            self._news.set()

    async def _follow_notifications(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            told, self._told = self._told, set()
            await self._catch_up(told)
            # Changes that come one upon the other are applied together: scans wait for each apply.
            await asyncio.sleep(GATHER_SECONDS)

    async def _follow_watermarks(self) -> None:
        while True:
            await asyncio.sleep(WATERMARK_SECONDS)
            with suppress(DatabaseUnavailable):
                # Each part for itself: one may be behind the others.
                known = [(at.publisher, each.gallery.version) for at, each in self._loaded.items()]
                current = await self._store.gallery_versions(sorted({name for name, _ in known}))
                await self._catch_up({name for name, has in known if current.get(name) != has})
                await self._confirm_erasures()

    async def _catch_up(self, publishers: set[str]) -> None:
        for place in [place for place in self._loaded if place.publisher in publishers]:
            async with self._locks[place]:
                if place in self._loaded:
                    with suppress(DatabaseUnavailable, ModelUnavailable, PublisherNotFound):
                        await self._refresh(place)

    async def _confirm_erasures(self) -> None:
        await self._erasures.see_replica(self._name)
        asked = await self._erasures.unconfirmed(self._name)
        lacked = [erasure.id for erasure in asked if await self._lacks(erasure)]
        if lacked:
            await self._erasures.confirm(self._name, lacked)

    async def _lacks(self, erasure: Unconfirmed) -> bool:
        places = [place for place in self._locks if place.publisher == erasure.publisher]
        for place in places:
            # Not while the gallery loads: that may have begun before the erasure.
            async with self._locks[place]:
                loaded = self._loaded.get(place)
                if loaded and not erasure.is_past(loaded.create_time, loaded.gallery.version):
                    return False
        if not any(place in self._loaded for place in places):
            await asyncio.to_thread(self._snapshots.delete, erasure.publisher)
        return True

    # Snapshots

    async def _write_snapshots(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_SECONDS)
            for place in list(self._loaded):
                await self._save(place)

    async def _save(self, place: Generation) -> None:
        """Writes a gallery that changed much, and goes on from the file: it needs less memory."""
        async with self._locks[place]:
            loaded = self._loaded.get(place)
            if loaded is None or not _is_worth_saving(loaded):
                return
            start = time.monotonic()
            thawed = await self._rewritten(place, loaded)
            if thawed is not None:
                now = time.monotonic()
                thawed.used, thawed.next_save = loaded.used, now + SNAPSHOT_REST * (now - start)
                self._hold(place, thawed)

    async def _rewritten(self, place: Generation, loaded: _Loaded) -> _Loaded | None:
        frozen = await asyncio.to_thread(loaded.gallery.freeze)
        if frozen is None:
            return None
        try:
            await asyncio.to_thread(self._snapshots.write, place, loaded.create_time, frozen)
        except OSError as problem:
            log.warning("no snapshot written", publisher=place.publisher, problem=str(problem))
            return None
        return await self._thawed(place)


def _asked(query: Query) -> Generation:
    return Generation(query.publisher, query.part, query.model_version)


def _apply(gallery: GalleryIndex, delta: GalleryDelta, place: Generation) -> None:
    changed = [each for each in delta.changed if place.part.holds(each.reference_id)]
    active = [_indexed(each, place.model_version) for each in changed if each.active]
    inactive = [each.reference_id for each in changed if not each.active]
    gallery.apply(delta.gallery_version, active, [*delta.removed, *inactive])


def _indexed(changed: ChangedReference, model_version: str) -> IndexedReference:
    images = tuple(
        reference_features(embeddings_from(model_version, [image.embedding]), image.local_features)
        for image in changed.images
    )
    return IndexedReference(changed.reference_id, changed.link, changed.metadata, images)


def _search_together(
    queries: Sequence[Query], reached: Sequence[GalleryIndex | ImageLinkError]
) -> list[SearchResult | ImageLinkError]:
    """Answers queries that one gallery can answer together with one search each."""
    answers: dict[int, SearchResult | ImageLinkError] = {}
    together: defaultdict[tuple[GalleryIndex, Channel, bool], list[int]] = defaultdict(list)
    for number, (query, gallery) in enumerate(zip(queries, reached, strict=True)):
        if isinstance(gallery, GalleryIndex):
            together[gallery, query.channel, query.embedding is None].append(number)
        else:
            answers[number] = gallery
    for (gallery, *_), numbers in together.items():
        found = gallery.search([queries[number] for number in numbers])
        answers.update(zip(numbers, found, strict=True))
    return [answers[number] for number in range(len(queries))]


def _is_worth_saving(loaded: _Loaded) -> bool:
    many = loaded.gallery.changes > SNAPSHOT_CHANGES * len(loaded.gallery)
    return time.monotonic() >= loaded.next_save and (many or not loaded.saved)
