"""The flow of a scan: decode, wait for company in a batch, recognise."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from indexing.errors import ImageLinkError, ModelUnavailable
from indexing.image import Pixels, decode
from indexing.placement import Placement
from indexing.recognition import WORKING_SIDE, Photo, Recogniser, Recognition
from indexing.reference import Publisher
from indexing.search import Query, SearchResult
from server.models import Models

ShardSearch = Callable[[Sequence[Query]], Awaitable[list[SearchResult | ImageLinkError]]]
Outcome = Recognition | ImageLinkError


@dataclass(frozen=True, slots=True)
class Scan:
    """A recognised photo: as it was looked at, RGB uint8, and its (width, height) in pixels."""

    recognition: Recognition
    pixels: Pixels
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """A photo, and what is to recognise it: the model version that serves its publisher."""

    recogniser: Recogniser
    photo: Photo


class Scanning:
    """Scans photos: ``recognise`` joins the photos of several requests in a batch.

    ``note`` is told of every scan that was answered.
    """

    def __init__(
        self,
        models: Models,
        recognise: Callable[[Asked], Awaitable[Outcome]],
        note: Callable[[Photo, Recognition, float], None],
    ) -> None:
        self._models = models
        self._recognise = recognise
        self._note = note

    async def scan(self, publisher: Publisher, image: bytes, min_gallery_version: int) -> Scan:
        """Recognises one photo in the publisher's gallery. Raises ImageLinkError."""
        start = time.perf_counter()
        pixels, size = await asyncio.to_thread(decode, image, WORKING_SIDE)
        decoded = time.perf_counter() - start
        photo = Photo(publisher.id, pixels, publisher.false_accept_budget, min_gallery_version)
        outcome = await self._answer(photo)
        if isinstance(outcome, ModelUnavailable):
            # The version may have gone out of service since this process last heard of it.
            await self._models.refresh()
            outcome = await self._answer(photo)
        if isinstance(outcome, ImageLinkError):
            raise outcome
        self._note(photo, outcome, time.perf_counter() - start)
        recognition = replace(outcome, seconds={"decode": decoded, **outcome.seconds})
        return Scan(recognition, pixels, size)

    async def _answer(self, photo: Photo) -> Outcome:
        model = await self._models.serving(photo.publisher)
        return await self._recognise(Asked(model.recogniser, photo))


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

    async def recognise(self, photos: Sequence[Photo]) -> list[Outcome]:
        """Answers each photo, or says why its publisher's gallery cannot."""
        failures: dict[int, ImageLinkError] = {}

        async def search(queries: Sequence[Query]) -> list[SearchResult]:
            found = await self._search(queries)
            for query, result in zip(queries, found, strict=True):
                if isinstance(result, ImageLinkError):
                    failures[query.photo] = result
            return [SearchResult.empty() if isinstance(r, ImageLinkError) else r for r in found]

        answers = await self._recogniser.recognise(photos, search)
        return [failures.get(number, answer) for number, answer in enumerate(answers)]


async def recognise_together(asked: Sequence[Asked], search: ShardSearch) -> list[Outcome]:
    """Recognises a batch of photos, those of each model version together."""
    together: defaultdict[Recogniser, list[int]] = defaultdict(list)
    for number, each in enumerate(asked):
        together[each.recogniser].append(number)
    answers = await asyncio.gather(
        *(
            ShardedRecogniser(recogniser, search).recognise([asked[n].photo for n in numbers])
            for recogniser, numbers in together.items()
        )
    )
    outcomes: dict[int, Outcome] = {}
    for numbers, found in zip(together.values(), answers, strict=True):
        outcomes.update(zip(numbers, found, strict=True))
    return [outcomes[number] for number in range(len(asked))]
