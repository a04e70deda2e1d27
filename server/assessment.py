"""The flow of an assessment: render phone views, recognise them in the live gallery, forecast."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog
from cachetools import LRUCache

from indexing.errors import ImageLinkError, Overloaded
from indexing.explanation import Judge, Judgement
from indexing.forecast import Forecast, Sighting, Subject, duplicates, forecast, sighted
from indexing.gallery_records import Written
from indexing.image import Pixels
from indexing.recognition import Photo, Recognition
from indexing.reference import Publisher
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference
from indexing.shard import Shard
from indexing.viewing import Viewing, planned_views
from server.models import Model
from server.registration import decode_reference
from server.scanning import ShardedRecogniser, ShardSearch

# Views go through in twos, so that scans get their turns in between.
BATCH = 2
MAX_WAITING = 8
# A registration is answered without its assessment rather than after its caller gave up.
REGISTRATION_SECONDS = 20.0
# The new picture's name in the results: no reference has an empty id.
GUEST = ""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Assessment:
    """A forecast, and the versions of the model and the gallery that it was made with."""

    forecast: Forecast
    model_version: str
    gallery_version: int


@dataclass(frozen=True, slots=True)
class _Case:
    """What is assessed: ``name`` in the results, ``live`` where the gallery has it."""

    publisher: Publisher
    model: Model
    subject: Subject
    views: tuple[Viewing, ...]
    name: str
    live: bool
    min_gallery_version: int


class Assessor:
    """Assesses pictures in their publishers' galleries, one after another.

    ``serving`` gives the model version that serves a publisher.
    """

    def __init__(self, serving: Callable[[str], Awaitable[Model]], search: ShardSearch) -> None:
        self._serving = serving
        self._search = search
        # Shards of their own for the new pictures, by model version.
        self._guests: LRUCache[str, Shard] = LRUCache(2)
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def assess(self, publisher: Publisher, image: bytes) -> Assessment:
        """Assesses an image as if it were registered; nothing is stored.

        Its votes are counted beside those of the gallery, where they would have to compete with
        them. Raises the errors of a registration's image and of a search, and Overloaded.
        """
        return await self._assess(publisher, image, GUEST, False, 0)

    async def assess_registered(
        self, publisher: Publisher, image: bytes, written: Written
    ) -> Assessment | None:
        """Assesses a reference that was just registered with ``image``.

        None where it cannot be done, or not in time: the reference is registered all the same.
        """
        reference = written.reference
        try:
            async with asyncio.timeout(REGISTRATION_SECONDS):
                # A repeated request may find that it was deactivated since: no gallery has it then.
                return await self._assess(
                    publisher, image, reference.id, reference.active, written.gallery_version
                )
        except (ImageLinkError, TimeoutError) as error:
            log.warning("not assessed", publisher=publisher.id, why=repr(error))
        except Exception:
            log.exception("not assessed", publisher=publisher.id)
        return None

    async def _assess(
        self, publisher: Publisher, image: bytes, name: str, live: bool, version: int
    ) -> Assessment:
        model = await self._serving(publisher.id)
        subject = await asyncio.to_thread(_subject, model, image)
        views = planned_views(hashlib.sha256(image).digest())
        case = _Case(publisher, model, subject, views, name, live, version)
        async with self._turn():
            clean, gallery_version = await self._judge_clean(case)
            same = frozenset(each.reference for each in duplicates(clean))
            sightings = await self._sightings(case, same | {name})
        made = await asyncio.to_thread(forecast, subject, clean, sightings)
        return Assessment(made, model.version, gallery_version)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting > MAX_WAITING:
            raise Overloaded
        self._waiting += 1
        try:
            async with self._lock:
                yield
        finally:
            self._waiting -= 1

    async def _judge_clean(self, case: _Case) -> tuple[list[Judgement], int]:
        """What the gallery makes of the picture itself without it, and the gallery's version."""
        search = _without(self._search, case.name)
        (found,) = await self._recognise(case, [case.subject.picture], search)
        return self._judged(case, found), found.gallery_version

    async def _sightings(self, case: _Case, own: frozenset[str]) -> list[Sighting]:
        guest = IndexedReference(case.name, "", {}, (case.subject.features,))
        search = self._search
        if not case.live:
            guests = await asyncio.to_thread(self._guest_shard, case.model)
            guests.replace(GUEST, 1, [guest])
            search = _beside(search, guests)
        sightings = []
        for start in range(0, len(case.views), BATCH):
            viewings = case.views[start : start + BATCH]
            views = [await asyncio.to_thread(v.render, case.subject.picture) for v in viewings]
            answers = await self._recognise(case, [view.photo for view in views], search)
            for viewing, view, answer in zip(viewings, views, answers, strict=True):
                sightings.append(sighted(viewing, view, self._judged(case, answer), own))
        return sightings

    def _guest_shard(self, model: Model) -> Shard:
        if model.version not in self._guests:
            self._guests[model.version] = Shard(model.bundle)
        return self._guests[model.version]

    async def _recognise(
        self, case: _Case, pictures: Sequence[Pixels], search: ShardSearch
    ) -> list[Recognition]:
        """Recognises photos in the publisher's gallery. Raises the first error of a search."""
        publisher = case.publisher
        photos = [
            Photo(publisher.id, pixels, publisher.false_accept_budget, case.min_gallery_version)
            for pixels in pictures
        ]
        found = []
        recogniser = ShardedRecogniser(case.model.recogniser, search)
        for outcome in await recogniser.recognise(photos):
            if isinstance(outcome, ImageLinkError):
                raise outcome
            found.append(outcome)
        return found

    def _judged(self, case: _Case, found: Recognition) -> list[Judgement]:
        judge = Judge(case.model.bundle.calibration, case.publisher.false_accept_budget)
        return judge.judge(found.candidates, found.matches)


def _subject(model: Model, image: bytes) -> Subject:
    pixels, size = decode_reference(image)
    return Subject(pixels, size, model.features.reference(pixels))


def _without(search: ShardSearch, reference: str) -> ShardSearch:
    """The search that never finds one reference."""

    async def found(queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        return [
            result if isinstance(result, ImageLinkError) else _lacking(result, reference)
            for result in await search(queries)
        ]

    return found


def _lacking(result: SearchResult, reference: str) -> SearchResult:
    kept = tuple(each for each in result.candidates if each.reference != reference)
    return replace(result, candidates=kept)


def _beside(search: ShardSearch, guests: Shard) -> ShardSearch:
    """The search as if the guest were in every gallery."""

    async def found(queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        results = await search(queries)
        own = await asyncio.to_thread(_guest_results, guests, queries)
        return [
            result if isinstance(result, ImageLinkError) else _joined(result, guest)
            for result, guest in zip(results, own, strict=True)
        ]

    return found


def _guest_results(guests: Shard, queries: Sequence[Query]) -> list[SearchResult]:
    return [guests.search(replace(query, publisher=GUEST)) for query in queries]


def _joined(result: SearchResult, guest: SearchResult) -> SearchResult:
    return replace(
        result,
        references=result.references + guest.references,
        candidates=guest.candidates + result.candidates,
        shortlist=guest.shortlist + result.shortlist,
    )
