"""What a gallery is asked about a photo, and how the images that resemble it are verified."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from indexing.appearance import NO_AGREEMENT, agreement
from indexing.decision import Candidate, Evidence
from indexing.descriptor_index import descriptor_ids
from indexing.embedding import Embeddings
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.locating import locate
from indexing.placement import WHOLE, Part
from indexing.segment import Segment
from indexing.verification import MIN_INLIERS, Geometry, pose_error
from indexing.voting import Ints, Votes

CANDIDATES_BY_VOTES = 10
CANDIDATES_BY_SIMILARITY = 4
LISTED_CANDIDATES = 50
# The best by votes and by similarity are matched directly where their votes do not convince.
MATCHED_BY_VOTES = 4
MATCHED_BY_SIMILARITY = 1


@dataclass(frozen=True, slots=True)
class Query:
    """What a shard is asked about one photo: one channel's local features, perhaps an embedding.

    ``photo`` is its place in the batch, ``levels`` its grey levels (``appearance.photo_levels``);
    ``model_version`` is that of all features; the gallery must be at least at
    ``min_gallery_version``. Of a publisher in parts only ``part`` is searched. ``trace`` names the
    span that the search belongs to (a W3C ``traceparent``), if there is one.
    """

    photo: int
    publisher: str
    model_version: str
    channel: Channel
    local: LocalFeatures
    levels: Pixels
    embedding: Embeddings | None = None
    min_gallery_version: int = 0
    part: Part = WHOLE
    trace: str = ""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a shard found: the verified candidates, and how much it searched.

    ``shortlist`` names the references by falling resemblance, before verification.
    """

    gallery_version: int
    references: int
    candidates: tuple[Candidate, ...]
    shortlist: tuple[str, ...]

    @classmethod
    def empty(cls) -> "SearchResult":
        """What a gallery without references answers."""
        return cls(0, 0, (), ())


@dataclass(frozen=True, slots=True)
class Placed:
    """A segment whose images have the rows from ``first`` on."""

    first: int
    segment: Segment

    def rows_of(self, number: int) -> list[int]:
        """The rows of a reference's images."""
        return [self.first + image for image in self.segment.images_of(number)]

    def descriptor_ids(self, channel: Channel) -> Ints:
        """The ids of all descriptors of a channel, int64 [m]."""
        rows = np.arange(self.segment.images) + self.first
        return descriptor_ids(rows, self.segment.tensors[f"{channel}.ends"])


class Rows:
    """The images of a gallery at one moment, by their rows."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self._placed = tuple(placed)
        self._firsts = [each.first for each in placed]

    def image(self, row: int) -> tuple[Segment, int]:
        """The segment that a row is in, and the number of its image there."""
        placed = self._placed[bisect_right(self._firsts, row) - 1]
        return placed.segment, row - placed.first

    def names(self, rows: Ints) -> dict[int, str]:
        """The ids of the references of images, int64 [n], by their rows."""
        ordered = np.unique(rows)
        starts = np.searchsorted(ordered, self._firsts)
        parts = zip(self._placed, np.split(ordered, starts[1:]), strict=True)
        names = [name for each, part in parts for name in each.segment.ids_of(part - each.first)]
        return dict(zip(ordered.tolist(), names, strict=True))


class Search:
    """The search of one photo, when its votes are counted: what is left needs no index."""

    def __init__(self, query: Query, votes: Votes, similar: list[int], rows: Rows) -> None:
        self._query = query
        self._votes = votes
        self._similar = similar
        self._rows = rows
        self._by_votes = votes.ranking(LISTED_CANDIDATES)
        # The rows of all that resembles the photo, the likeliest by their votes first.
        self.listed = [row for row, _ in self._by_votes] + similar

    def result(self, version: int, size: int, names: Mapping[int, str]) -> SearchResult:
        """The answer of a gallery of this version with so many references, of these names."""
        candidates = tuple(self._verified())
        shortlist = dict.fromkeys(names[row] for row in self.listed)
        return SearchResult(version, size, candidates, tuple(shortlist))

    def _verified(self) -> Iterator[Candidate]:
        shares = dict(self._by_votes)
        best = [row for row, _ in self._by_votes[:CANDIDATES_BY_VOTES]]
        matched = {*best[:MATCHED_BY_VOTES], *self._similar[:MATCHED_BY_SIMILARITY]}
        query = self._query
        if not len(query.local):
            return
        for row in dict.fromkeys(best + self._similar[:CANDIDATES_BY_SIMILARITY]):
            # Binary descriptors answer at once or not at all: finer ones have the last word.
            directly = query.channel is Channel.FINE and row in matched
            votes = self._votes.of(row)
            if not directly and len(votes[0]) < MIN_INLIERS:
                continue
            segment, image = self._rows.image(row)
            own = segment.local(image, query.channel)
            geometry = locate(query.local, own, query.channel, votes, directly)
            if geometry is not None:
                error = pose_error(geometry, query.local.aspect, own.aspect)
                yield self._candidate(row, shares.get(row, 0.0), geometry, error)

    def _candidate(self, row: int, share: float, geometry: Geometry, error: float) -> Candidate:
        segment, image = self._rows.image(row)
        alike = NO_AGREEMENT
        if geometry.plausible:
            alike = agreement(self._query.levels, geometry.quad, segment.thumbnail(image))
        evidence = Evidence(
            self._query.channel, self._similarity(segment, image), share, geometry, alike, error
        )
        number = segment.reference_of(image)
        return Candidate(segment.id(number), *segment.answer(number), evidence)

    def _similarity(self, segment: Segment, image: int) -> float | None:
        if self._query.embedding is None:
            return None
        own = Embeddings(self._query.model_version, segment.embedding(image).astype(np.float32))
        return float(self._query.embedding.similarity(own)[0, 0])
