"""Queries go to the shards that have their publishers' galleries, and parts are one gallery."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from indexing.decision import Candidate
from indexing.errors import DatabaseUnavailable, GalleryVersionNotReached, ImageLinkError
from indexing.keypoints import Channel, LocalFeatures
from indexing.placement import WHOLE, Assignment, Part, Placement
from indexing.search import Query, SearchResult
from server.scanning import PlacedGalleries

Answer = Callable[[int, Query], SearchResult | ImageLinkError]


# What is in a photo or a candidate is nothing to whoever passes it on.
NO_FEATURES = cast(LocalFeatures, None)


def query(photo: int, publisher: str) -> Query:
    levels = np.zeros((1, 1), np.uint8)
    return Query(photo, publisher, "model", Channel.ORB, NO_FEATURES, levels)


def result(version: int, *references: str) -> SearchResult:
    candidates = tuple(cast(Candidate, f"candidate {name}") for name in references)
    return SearchResult(version, len(references), candidates, references)


class Shards:
    """Shards whose answers are made up; notes who was asked what."""

    def __init__(self, placement: Placement, answer: Answer) -> None:
        self._placement = placement
        self._answer = answer
        self.asked: list[tuple[int, list[tuple[str, Part]]]] = []

    async def placement(self) -> Placement:
        return self._placement

    async def ask(
        self, shard: int, queries: Sequence[Query]
    ) -> list[SearchResult | ImageLinkError]:
        self.asked.append((shard, [(each.publisher, each.part) for each in queries]))
        return [self._answer(shard, each) for each in queries]

    async def search(self, *queries: Query) -> list[SearchResult | ImageLinkError]:
        return await PlacedGalleries(self.placement, self.ask).search(queries)


IN_PARTS = Placement((0, 1, 2), {"large": Assignment((0, 2)), "small": Assignment((1,), True)})


async def test_a_shard_is_asked_once_for_all_of_a_batch() -> None:
    shards = Shards(IN_PARTS, lambda shard, q: result(1, f"{q.publisher}-{q.part.number}-{shard}"))
    found = await shards.search(query(0, "small"), query(1, "large"), query(2, "small"))
    assert sorted(shards.asked) == [
        (0, [("large", Part(0, 2))]),
        (1, [("small", WHOLE), ("small", WHOLE)]),
        (2, [("large", Part(1, 2))]),
    ]
    assert [each.shortlist for each in found if isinstance(each, SearchResult)] == [
        ("small-0-1",),
        ("large-0-0", "large-1-2"),
        ("small-0-1",),
    ]


async def test_parts_are_merged_to_one_gallery() -> None:
    parts = {0: result(7, "a", "b", "c"), 1: result(5, "x")}
    shards = Shards(IN_PARTS, lambda _, q: parts[q.part.number])
    (found,) = await shards.search(query(0, "large"))
    joined = result(5, "a", "b", "c", "x")
    assert found == replace(joined, shortlist=("a", "x", "b", "c"))


async def test_two_parts_on_one_shard_are_both_searched() -> None:
    placement = Placement((0,), {"large": Assignment((0, 0))})
    shards = Shards(placement, lambda _, q: result(1, f"in-{q.part.number}"))
    (found,) = await shards.search(query(0, "large"))
    assert found == result(1, "in-0", "in-1")
    assert len(shards.asked) == 1


async def test_a_part_that_cannot_answer_fails_the_query_and_no_other() -> None:
    behind = GalleryVersionNotReached(version=1, wanted=2)

    def answer(shard: int, asked: Query) -> SearchResult | ImageLinkError:
        return behind if asked.part == Part(1, 2) else result(2, "a")

    shards = Shards(IN_PARTS, answer)
    assert await shards.search(query(0, "large"), query(1, "small")) == [behind, result(2, "a")]


async def test_without_a_placement_every_query_says_why() -> None:
    unavailable = DatabaseUnavailable()

    async def placement() -> Placement:
        raise unavailable

    shards = Shards(IN_PARTS, lambda _, q: result(1))
    galleries = PlacedGalleries(placement, shards.ask)
    assert await galleries.search([query(0, "a"), query(1, "b")]) == [unavailable] * 2
    assert shards.asked == []
