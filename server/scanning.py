"""The flow of a scan: decode, wait for company in a batch, recognise."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from indexing.errors import ImageLinkError
from indexing.image import Pixels, decode
from indexing.placement import shard_of
from indexing.recognition import WORKING_SIDE, Photo, Recogniser, Recognition
from indexing.reference import Publisher
from indexing.shard import Query, SearchResult

ShardSearch = Callable[[Sequence[Query]], Awaitable[list[SearchResult | ImageLinkError]]]
Outcome = Recognition | ImageLinkError


@dataclass(frozen=True, slots=True)
class Scan:
    """A recognised photo: as it was looked at, RGB uint8, and its (width, height) in pixels."""

    recognition: Recognition
    pixels: Pixels
    size: tuple[int, int]


class Scanning:
    """Scans photos: ``recognise`` joins the photos of several requests in a batch."""

    def __init__(self, recognise: Callable[[Photo], Awaitable[Outcome]]) -> None:
        self._recognise = recognise

    async def scan(self, publisher: Publisher, image: bytes, min_gallery_version: int) -> Scan:
        """Recognises one photo in the publisher's gallery. Raises ImageLinkError."""
        start = time.perf_counter()
        pixels, size = await asyncio.to_thread(decode, image, WORKING_SIDE)
        decoded = time.perf_counter() - start
        outcome = await self._recognise(
            Photo(publisher.id, pixels, publisher.false_accept_budget, min_gallery_version)
        )
        if isinstance(outcome, ImageLinkError):
            raise outcome
        recognition = replace(outcome, seconds={"decode": decoded, **outcome.seconds})
        return Scan(recognition, pixels, size)


class ShardedRecogniser:
    """Recognises batches of photos with one search call per shard and stage."""

    def __init__(self, recogniser: Recogniser, shards: Sequence[ShardSearch]) -> None:
        self._recogniser = recogniser
        self._shards = shards

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

    async def _search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        by_shard: dict[int, list[int]] = {}
        for number, query in enumerate(queries):
            by_shard.setdefault(shard_of(query.publisher, len(self._shards)), []).append(number)
        answers = await asyncio.gather(
            *(
                self._shards[shard]([queries[number] for number in numbers])
                for shard, numbers in by_shard.items()
            )
        )
        found: dict[int, SearchResult | ImageLinkError] = {}
        for numbers, results in zip(by_shard.values(), answers, strict=True):
            found.update(zip(numbers, results, strict=True))
        return [found[number] for number in range(len(queries))]
