"""The flow of a scan: be within the quota, wait for a turn, decode, recognise."""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Protocol

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind
from structlog.contextvars import bound_contextvars

from indexing.decision import Calibration
from indexing.errors import ImageLinkError, ModelUnavailable
from indexing.image import decode
from indexing.keypoints import Channel
from indexing.placement import Placement
from indexing.recognition import WORKING_SIDE, Photo, Recogniser, Recognition
from indexing.reference import Publisher
from indexing.search import Query, SearchResult
from server import tracing
from server.fair_queue import FairQueue, QueueLimits
from server.models import Models
from server.rpc import logged_fault
from server.scan_quota import ScanQuota

ShardSearch = Callable[[Sequence[Query]], Awaitable[list[SearchResult | ImageLinkError]]]
Outcome = Recognition | ImageLinkError


@dataclass(frozen=True, slots=True)
class Scan:
    """A recognised photo: the scan's id, the photo as it was looked at, and its (width, height) in
    pixels as it came; ``calibration`` is that of the model version that recognised it.
    """

    id: str
    recognition: Recognition
    calibration: Calibration
    photo: Photo
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """A photo, and what is to recognise it: the model version that serves its publisher."""

    recogniser: Recogniser
    photo: Photo
    span: Span = INVALID_SPAN


@dataclass(frozen=True, slots=True)
class _Request:
    """A photo as it came, and when, by the performance counter; ``id`` and ``span`` are its scan's."""

    id: str
    span: Span
    publisher: Publisher
    image: bytes
    min_gallery_version: int
    begun: float


@dataclass(frozen=True, slots=True)
class _Decoded:
    asked: Asked
    size: tuple[int, int]


class ScanMeter(Protocol):
    """Who measures scans."""

    def began(self, batch_size: int, waiting: int) -> None:
        """A batch was begun, and so many scans still wait."""

    def answered(self, found: Recognition, seconds: float) -> None:
        """A scan was answered, so long after it came."""

    def failed(self, error: ImageLinkError) -> None:
        """A scan was refused, or failed."""


class Scanning:
    """Scans photos, in batches in which publishers take turns.

    ``search`` asks the galleries; ``note`` is told of every scan that was answered, after
    so many seconds.
    """

    def __init__(
        self,
        models: Models,
        search: ShardSearch,
        note: Callable[[Publisher, Scan, float], None],
        meter: ScanMeter,
        limits: QueueLimits,
    ) -> None:
        self._models = models
        self._search = search
        self._note = note
        self._meter = meter
        self._quota = ScanQuota()
        self._queue = FairQueue(self._scan_together, limits)

    async def scan(self, publisher: Publisher, image: bytes, min_gallery_version: int) -> Scan:
        """Recognises one photo in the publisher's gallery. Raises ImageLinkError."""
        scan_id = uuid.uuid4().hex
        with bound_contextvars(scan=scan_id):
            try:
                with tracing.scan(publisher.id, scan_id) as span:
                    self._quota.take(publisher)
                    begun = time.perf_counter()
                    request = _Request(scan_id, span, publisher, image, min_gallery_version, begun)
                    scan = await self._answer(request)
                    tracing.answered(span, scan.recognition)
            except ImageLinkError as error:
                self._meter.failed(error)
                raise
            except Exception as error:
                fault = logged_fault("Scan", error)
                self._meter.failed(fault)
                raise fault from error
        seconds = time.perf_counter() - begun
        self._meter.answered(scan.recognition, seconds)
        self._note(publisher, scan, seconds)
        return scan

    async def _answer(self, request: _Request) -> Scan:
        try:
            return await self._in_turn(request)
        except ModelUnavailable:
            # The version may have gone out of service since this process last heard of it.
            await self._models.refresh()
            return await self._in_turn(request)

    async def _in_turn(self, request: _Request) -> Scan:
        publisher = request.publisher
        return await self._queue.ask(publisher.id, request, publisher.scan_weight)

    async def _scan_together(self, requests: Sequence[_Request]) -> list[Scan | ImageLinkError]:
        with bound_contextvars(scans=[request.id for request in requests]):
            return await self._recognise_batch(requests)

    async def _recognise_batch(self, requests: Sequence[_Request]) -> list[Scan | ImageLinkError]:
        start = time.perf_counter()
        self._meter.began(len(requests), self._queue.waiting)
        for request in requests:
            tracing.begun(request.span, len(requests), start - request.begun)
        tried = await asyncio.gather(*map(self._tried, requests))
        decoding = time.perf_counter() - start
        decoded = [each for each in tried if isinstance(each, _Decoded)]
        found = iter(await recognise_together([each.asked for each in decoded], self._search))
        return [
            _scan(
                request.id, each, next(found), {"queue": start - request.begun, "decode": decoding}
            )
            if isinstance(each, _Decoded)
            else each
            for request, each in zip(requests, tried, strict=True)
        ]

    async def _tried(self, request: _Request) -> _Decoded | ImageLinkError:
        try:
            return await self._decoded(request)
        except ImageLinkError as error:
            return error

    async def _decoded(self, request: _Request) -> _Decoded:
        with tracing.stage("decode", [request.span]):
            pixels, size = await asyncio.to_thread(decode, request.image, WORKING_SIDE)
        publisher = request.publisher
        model = await self._models.serving(publisher.id)
        budget, version = publisher.false_accept_budget, request.min_gallery_version
        photo = Photo(publisher.id, pixels, budget, version)
        return _Decoded(Asked(model.recogniser, photo, request.span), size)


def _scan(
    scan_id: str, decoded: _Decoded, found: Outcome, before: Mapping[str, float]
) -> Scan | ImageLinkError:
    if isinstance(found, ImageLinkError):
        return found
    recognition = replace(found, seconds={**before, **found.seconds})
    asked = decoded.asked
    return Scan(scan_id, recognition, asked.recogniser.calibration, asked.photo, decoded.size)


class PlacedGalleries:
    """The search in all galleries: each query goes to the shards that have its publisher's.

    ``placement`` tells where galleries live now, ``ask`` puts queries to a shard.
    """

    def __init__(
        self,
        placement: Callable[[], Awaitable[Placement]],
        ask: Callable[[int, Sequence[Query]], Awaitable[list[SearchResult | ImageLinkError]]],
    ) -> None:
        self._placement = placement
        self._ask = ask

    async def search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        """Answers each query, or says why its publisher's gallery cannot, with one call per shard.

        A gallery in parts is asked in all of them; where one cannot answer, none does.
        """
        try:
            placement = await self._placement()
        except ImageLinkError as error:
            return [error] * len(queries)
        places = [placement.locate(query.publisher) for query in queries]
        asked = [
            (place.shard, replace(query, part=place.part))
            for query, found in zip(queries, places, strict=True)
            for place in found
        ]
        answers = iter(await self._ask_all(asked))
        return [_merged([next(answers) for _ in found]) for found in places]

    async def _ask_all(
        self, asked: Sequence[tuple[int, Query]]
    ) -> list[SearchResult | ImageLinkError]:
        by_shard: dict[int, list[int]] = {}
        for number, (shard, _) in enumerate(asked):
            by_shard.setdefault(shard, []).append(number)
        answers = await asyncio.gather(
            *(self._ask(s, [asked[number][1] for number in n]) for s, n in by_shard.items())
        )
        found: dict[int, SearchResult | ImageLinkError] = {}
        for numbers, results in zip(by_shard.values(), answers, strict=True):
            found.update(zip(numbers, results, strict=True))
        return [found[number] for number in range(len(asked))]


def _merged(parts: Sequence[SearchResult | ImageLinkError]) -> SearchResult | ImageLinkError:
    """What the parts of one gallery found, as one; or the first error.

    The shortlists are interleaved, as the resemblance in one part says nothing of the others.
    """
    results: list[SearchResult] = []
    for part in parts:
        if isinstance(part, ImageLinkError):
            return part
        results.append(part)
    if len(results) == 1:
        return results[0]
    ranked = zip_longest(*(result.shortlist for result in results))
    return SearchResult(
        min(result.gallery_version for result in results),
        sum(result.references for result in results),
        tuple(chain.from_iterable(result.candidates for result in results)),
        tuple(name for names in ranked for name in names if name is not None),
    )


class ShardedRecogniser:
    """Recognises batches of photos with one search per stage."""

    def __init__(self, recogniser: Recogniser, search: ShardSearch) -> None:
        self._recogniser = recogniser
        self._search = search

    async def recognise(
        self, photos: Sequence[Photo], spans: Sequence[Span] | None = None
    ) -> list[Outcome]:
        """Answers each photo, or says why its publisher's gallery cannot.

        The stages are traced below ``spans``, one for each photo.
        """
        failures: dict[int, ImageLinkError] = {}
        traced = _TracedSearch(self._search, spans or [INVALID_SPAN] * len(photos))

        async def search(queries: Sequence[Query]) -> list[SearchResult]:
            found = await traced.search(queries)
            for query, result in zip(queries, found, strict=True):
                if isinstance(result, ImageLinkError):
                    failures[query.photo] = result
            return [SearchResult.empty() if isinstance(r, ImageLinkError) else r for r in found]

        answers = await self._recogniser.recognise(photos, search)
        return [failures.get(number, answer) for number, answer in enumerate(answers)]


class _TracedSearch:
    """The searches of a batch with their spans, and those of the features that each waited for."""

    def __init__(self, search: ShardSearch, spans: Sequence[Span]) -> None:
        self._search = search
        self._spans = spans
        self._since = time.time_ns()

    async def search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        """Answers each query, or says why its publisher's gallery cannot."""
        asking = [self._spans[query.photo] for query in queries]
        fine = "fine_" if queries[0].channel is Channel.FINE else ""
        tracing.passed(f"{fine}features", asking, self._since)
        with tracing.stage(f"{fine}search", asking, SpanKind.CLIENT) as spans:
            found = await self._search(list(map(_traced, queries, spans)))
            for span, result in zip(spans, found, strict=True):
                if isinstance(result, ImageLinkError):
                    tracing.failed(span, result)
        self._since = time.time_ns()
        return found


def _traced(query: Query, span: Span) -> Query:
    name = tracing.named(span)
    return replace(query, trace=name) if name else query


async def recognise_together(asked: Sequence[Asked], search: ShardSearch) -> list[Outcome]:
    """Recognises a batch of photos, those of each model version together."""
    together: defaultdict[Recogniser, list[int]] = defaultdict(list)
    for number, each in enumerate(asked):
        together[each.recogniser].append(number)
    answers = await asyncio.gather(
        *(
            ShardedRecogniser(recogniser, search).recognise(
                [asked[n].photo for n in numbers], [asked[n].span for n in numbers]
            )
            for recogniser, numbers in together.items()
        )
    )
    outcomes: dict[int, Outcome] = {}
    for numbers, found in zip(together.values(), answers, strict=True):
        outcomes.update(zip(numbers, found, strict=True))
    return [outcomes[number] for number in range(len(asked))]
