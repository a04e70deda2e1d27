"""The recognition cascade: from photos to answers.

Binary descriptors come first. Where they leave a photo in doubt, finer ones and the embedding find more
candidates, and the finer ones have the last word. The gallery is asked through a callable, so that it
may be in this process or in another.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from indexing.appearance import photo_levels
from indexing.bundle import Bundle
from indexing.decision import Candidate, Match, NoMatch, accepted
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.search import Query, SearchResult

WORKING_SIDE = 640
MIN_QUERY_KEYPOINTS = 16
MIN_QUERY_SIDE = 32
# The first stage is beyond doubt with this log-odds; where the better half of the quad looks this much
# like the reference, and inliers spread over this share of it, as corners far from every inlier are
# a guess; and with no more than this share of the photo's keypoints left unexplained, as a second
# thing may hide among them.
CERTAIN_LOG_ODDS = 4.0
CERTAIN_AGREEMENT = 0.8
CERTAIN_COVERAGE = 0.3
UNEXPLAINED_SHARE = 0.65

Search = Callable[[Sequence[Query]], Awaitable[Sequence[SearchResult]]]


@dataclass(frozen=True, slots=True)
class _Found:
    """Local features, whose they are, and the seconds that it took to find them."""

    extractor: FeatureExtractor
    local: LocalFeatures
    seconds: float


class Look:
    """What was found in a photo: once for all model versions that find the same in it.

    ``spared_seconds`` is how much longer it had taken to find it for each.
    """

    def __init__(self) -> None:
        self._found: dict[Channel, _Found] = {}
        self.spared_seconds = 0.0

    def local(self, pixels: Pixels, channel: Channel, extractor: FeatureExtractor) -> LocalFeatures:
        """The photo's local features, found by this extractor or by one that finds the same."""
        known = self._known(channel, extractor)
        if known is not None:
            self.spared_seconds += known.seconds
            return known.local
        binary = self._known(Channel.ORB, extractor)
        start = time.perf_counter()
        local = extractor.query(pixels, channel, None if binary is None else binary.local)
        self._found[channel] = _Found(extractor, local, time.perf_counter() - start)
        return local

    def _known(self, channel: Channel, extractor: FeatureExtractor) -> _Found | None:
        found = self._found.get(channel)
        if found is None or not extractor.same_local_features(found.extractor):
            return None
        return found


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo to be recognised for a publisher.

    ``pixels`` is RGB, uint8 [height, width, 3], at most 640 on the longer side;
    ``false_accept_budget`` is the publisher's. The gallery is searched at ``min_gallery_version``
    or later. ``look`` is what model versions found in it so far.
    """

    publisher: str
    pixels: Pixels
    false_accept_budget: float
    min_gallery_version: int = 0
    look: Look = field(default_factory=Look, compare=False)

    def local(self, channel: Channel, extractor: FeatureExtractor) -> LocalFeatures:
        """Its local features, as this extractor finds them."""
        return self.look.local(self.pixels, channel, extractor)


@dataclass(frozen=True, slots=True)
class Recognition:
    """The answer to a photo, by a model version.

    ``no_match`` says why ``matches`` is empty. ``candidates`` are all that were verified, of both
    channels; ``shortlist`` names references by falling resemblance. ``keypoints`` counts the photo's
    local features of each channel that was asked. ``seconds`` has the wall-clock time of each stage, of the whole batch.
    """

    model_version: str
    matches: tuple[Match, ...]
    no_match: NoMatch | None
    gallery_version: int
    candidates: tuple[Candidate, ...]
    shortlist: tuple[str, ...]
    keypoints: Mapping[Channel, int]
    seconds: dict[str, float]

    @property
    def outcome(self) -> str:
        """``MATCH``, or the name of why there is none."""
        return "MATCH" if self.no_match is None else self.no_match.name


class Recogniser:
    """Recognises photos under one model version."""

    def __init__(self, bundle: Bundle) -> None:
        self._features = FeatureExtractor(bundle)
        self.calibration = bundle.calibration
        self.model_version = bundle.version

    async def recognise(self, photos: Sequence[Photo], search: Search) -> list[Recognition]:
        """Recognises a batch of photos, each in its publisher's gallery.

        ``search`` answers queries in their order; it is called once or twice.
        """
        seconds: dict[str, float] = {}
        with _timed(seconds, "features"):
            queries = await asyncio.gather(*(self._query(n, p) for n, p in enumerate(photos)))
        with _timed(seconds, "search"):
            results = list(await search(queries))
        keypoints = [{query.channel: len(query.local)} for query in queries]
        doubtful = [
            i for i, photo in enumerate(photos) if self._in_doubt(photo, queries[i], results[i])
        ]
        if doubtful:
            with _timed(seconds, "fine_features"):
                fine = await self._fine_queries([(photos[i], queries[i]) for i in doubtful])
            with _timed(seconds, "fine_search"):
                found = await search(fine)
            for i, query, result in zip(doubtful, fine, found, strict=True):
                keypoints[i][query.channel] = len(query.local)
                results[i] = _joined(results[i], result)
        return [
            self._recognition(photo, counts, result, seconds)
            for photo, counts, result in zip(photos, keypoints, results, strict=True)
        ]

    async def _query(self, number: int, photo: Photo) -> Query:
        local, levels = await asyncio.to_thread(self._looked, photo)
        return Query(
            number,
            photo.publisher,
            self.model_version,
            Channel.ORB,
            local,
            levels,
            min_gallery_version=photo.min_gallery_version,
        )

    def _looked(self, photo: Photo) -> tuple[LocalFeatures, Pixels]:
        return photo.local(Channel.ORB, self._features), photo_levels(photo.pixels)

    async def _fine_queries(self, asked: Sequence[tuple[Photo, Query]]) -> list[Query]:
        pictures = [photo.pixels for photo, _ in asked]
        embeddings, local = await asyncio.gather(
            asyncio.to_thread(self._features.embed, pictures),
            asyncio.gather(
                *(asyncio.to_thread(p.local, Channel.FINE, self._features) for p, _ in asked)
            ),
        )
        return [
            replace(query, channel=Channel.FINE, local=found, embedding=embedding)
            for (_, query), found, embedding in zip(asked, local, embeddings.rows(), strict=True)
        ]

    def _in_doubt(self, photo: Photo, query: Query, result: SearchResult) -> bool:
        if result.references == 0:
            return False
        matches = self._accepted(photo, result)
        certain = [match for match in matches if _certain(match)]
        return not certain or _unexplained(query.local, certain) > UNEXPLAINED_SHARE

    def _accepted(self, photo: Photo, result: SearchResult) -> tuple[Match, ...]:
        return accepted(result.candidates, self.calibration, photo.false_accept_budget)

    def _recognition(
        self,
        photo: Photo,
        keypoints: Mapping[Channel, int],
        result: SearchResult,
        seconds: dict[str, float],
    ) -> Recognition:
        matches = self._accepted(photo, result)
        no_match = None if matches else _no_match(photo, keypoints[Channel.ORB], result)
        return Recognition(
            self.model_version,
            matches,
            no_match,
            result.gallery_version,
            result.candidates,
            result.shortlist,
            keypoints,
            seconds,
        )


def _certain(match: Match) -> bool:
    evidence = match.candidate.evidence
    return (
        match.log_odds >= CERTAIN_LOG_ODDS
        and evidence.agreement.better_half >= CERTAIN_AGREEMENT
        and evidence.geometry.coverage >= CERTAIN_COVERAGE
    )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def _joined(coarse: SearchResult, fine: SearchResult) -> SearchResult:
    return SearchResult(
        min(coarse.gallery_version, fine.gallery_version),
        fine.references,
        coarse.candidates + fine.candidates,
        tuple(dict.fromkeys(fine.shortlist + coarse.shortlist)),
    )


def _unexplained(local: LocalFeatures, matches: Sequence[Match]) -> float:
    """The share of a photo's keypoints that lie in none of the matches' convex quads."""
    explained = np.zeros(len(local), bool)
    for found in matches:
        quad = found.candidate.evidence.geometry.quad
        sides = np.roll(quad, -1, axis=0) - quad
        to_point = local.points[:, None] - quad
        turns = sides[:, 0] * to_point[..., 1] - sides[:, 1] * to_point[..., 0]
        explained |= (turns >= 0).all(axis=1)
    return float(1 - explained.mean()) if len(local) else 0.0


def _no_match(photo: Photo, keypoints: int, result: SearchResult) -> NoMatch:
    if result.references == 0:
        return NoMatch.NOTHING_REGISTERED
    if keypoints < MIN_QUERY_KEYPOINTS or min(photo.pixels.shape[:2]) < MIN_QUERY_SIDE:
        return NoMatch.IMAGE_TOO_POOR
    if not result.candidates:
        return NoMatch.NOTHING_SIMILAR
    if not any(candidate.evidence.geometry.plausible for candidate in result.candidates):
        return NoMatch.NOT_VERIFIED
    return NoMatch.AMBIGUOUS
