"""What a gallery can be asked for candidates: embeddings and local features, in several ways.

A source ranks the gallery's images for one photo. Each channel is asked alone, with the settings of
the recognition and with others, so that what a setting gives and costs is seen by itself.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, TypeVar

import faiss
import numpy as np

from indexing.bundle import Bundle
from indexing.descriptor_index import (
    LISTS_PROBED,
    NEIGHBOURS,
    DescriptorIndex,
    Index,
    descriptor_ids,
)
from indexing.embedding import Embeddings
from indexing.gallery_index import VOTING_KEYPOINTS
from indexing.image import Pixels, scaled
from indexing.keypoints import Channel, Extractor, LocalFeatures, joined
from indexing.segment import IndexedReference
from indexing.verification import one_to_one, verify
from indexing.voting import Floats, Ints, Votes, vote

DESCRIPTORS = (150, 300, 600)
SIDES = (320, 480, 640)
NEIGHBOURS_TRIED = (4, 16)
LISTS_TRIED = (2, 4, 6, 8, 16)
LISTED = 50
EMBEDDING = "embedding"
UNION = " + "
# The centre crop's sides as shares of the photo's.
CENTRE = 0.6
# Bins of rotation in a full turn, and of scale to either side of 1.
TURNS = 12
OCTAVES = 5
# A keypoint is not smaller than this share of its image's longer side.
FINEST = 1e-4
BYTES_PER_ID = 8

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Extraction:
    """How local features are taken from a photo.

    ``descriptors`` is their greatest number, ``side`` the greatest of the photo's longer side in
    pixels. With ``centre`` as many again come from the middle of the photo alone.
    """

    channel: Channel
    descriptors: int
    side: int
    centre: bool = False


@dataclass(frozen=True, slots=True)
class VoteSource:
    """The votes of one channel: the features asked with, and how widely their index is searched."""

    name: str
    extraction: Extraction
    neighbours: int
    lists: int


@dataclass(frozen=True, slots=True)
class Shortlist:
    """References by falling resemblance, at most 50, and the milliseconds it took to list them.

    ``parts`` names what of the gallery was looked at.
    """

    references: tuple[str, ...]
    parts: tuple[str, ...]
    extraction: float
    search: float
    reranking: float = 0.0


@dataclass(frozen=True, slots=True)
class AskedPhoto:
    """The features of a photo for every source, with the milliseconds that each took.

    ``photos`` names the set it is of, ``expected`` the references it shows. An embedding with two
    rows is that of the photo and of its middle.
    """

    photos: str
    expected: tuple[str, ...]
    embeddings: dict[str, tuple[Embeddings, float]]
    local: dict[Extraction, tuple[LocalFeatures, float]]


@dataclass(frozen=True, slots=True)
class Matched:
    """Keypoints of a photo and of a reference, matched row by row, and their votes' weights."""

    query: LocalFeatures
    reference: LocalFeatures
    weights: Floats


Check = Callable[[Matched], float]


def vote_sources(bundle: Bundle) -> tuple[VoteSource, ...]:
    """Each channel as the recognition asks it, under its own name, and with one setting changed."""
    return tuple(source for channel in Channel for source in _varied(bundle, channel))


def ask(
    bundle: Bundle,
    sources: Sequence[VoteSource],
    photos: str,
    picture: Pixels,
    expected: Sequence[str],
) -> AskedPhoto:
    """Takes the features of a photo, uint8 RGB [height, width, 3], that the sources need."""
    embed, whole_and_middle = bundle.embedder.embed, [picture, _middle(picture)]
    embeddings = {
        EMBEDDING: timed(embed, [picture]),
        f"{EMBEDDING}, centre too": timed(embed, whole_and_middle),
    }
    extractions = dict.fromkeys(source.extraction for source in sources)
    local = {
        each: timed(_extract, bundle.extractors[each.channel], picture, each)
        for each in extractions
    }
    return AskedPhoto(photos, tuple(expected), embeddings, local)


class CandidateGallery:
    """A gallery that only grows, and ranks its images for a photo in many ways."""

    def __init__(self, bundle: Bundle) -> None:
        self._embeddings: Index = faiss.IndexFlatIP(bundle.manifest.dimension)
        self._descriptors = {
            channel: _AdjustableIndex(channel, codebook.quantizers())
            for channel, codebook in bundle.codebooks.items()
        }
        self._names: list[str] = []
        self._local: dict[Channel, list[LocalFeatures]] = {channel: [] for channel in Channel}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, references: Sequence[IndexedReference]) -> None:
        """Adds references, whose names must be new."""
        images = [(each.id, image) for each in references for image in each.images]
        rows = np.arange(len(self), len(self) + len(images))
        self._names += [name for name, _ in images]
        self._embeddings.add(np.concatenate([image.embedding.vectors for _, image in images]))
        for channel, index in self._descriptors.items():
            local = [image.local[channel] for _, image in images]
            ids = descriptor_ids(rows, np.cumsum([len(each) for each in local]))
            index.add(ids, np.concatenate([each.descriptors for each in local]))
            self._local[channel] += local

    def shortlists(
        self, photo: AskedPhoto, sources: Sequence[VoteSource]
    ) -> Iterator[tuple[str, Shortlist]]:
        """The shortlist of each source for a photo; of the recognition's own also reranked."""
        for name, (embeddings, extraction) in photo.embeddings.items():
            rows, search = timed(self._most_similar, embeddings)
            yield name, Shortlist(self._references(rows), (EMBEDDING,), extraction, search)
        for source in sources:
            local, extraction = photo.local[source.extraction]
            (votes, rows), search = timed(self._voted, source, local)
            channel = source.extraction.channel
            shortlist = Shortlist(self._references(rows), (channel,), extraction, search)
            yield source.name, shortlist
            if source.name == channel:
                for check in CHECKS:
                    ranked, time = timed(self._reranked, check, photo, source, votes, rows)
                    names, parts = self._references(ranked), (channel, f"{channel} geometry")
                    better = Shortlist(names, parts, extraction, search, time)
                    yield f"{channel}, reranked by {check}", better

    def bytes_per_image(self) -> dict[str, float]:
        """What an image takes in memory on average, by the part of the gallery.

        Parts are the ``embedding``, each channel's entries in its index, and its ``geometry``: the
        places, scales and angles of keypoints. What all images share is not counted.
        """
        sizes = {EMBEDDING: 4.0 * self._embeddings.d}
        for channel, index in self._descriptors.items():
            sizes[channel] = len(index) / len(self) * (index.code_size + BYTES_PER_ID)
            geometry = sum(_geometry_bytes(each) for each in self._local[channel])
            sizes[f"{channel} geometry"] = geometry / len(self)
        return sizes

    def _references(self, rows: Sequence[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._names[row] for row in rows))

    def _most_similar(self, embeddings: Embeddings) -> list[int]:
        scores, rows = self._embeddings.search(embeddings.vectors, LISTED)
        order = np.argsort(-scores, axis=None, kind="stable")
        ranked = dict.fromkeys(rows.ravel()[order].tolist())
        return [row for row in ranked if row >= 0][:LISTED]

    def _voted(self, source: VoteSource, local: LocalFeatures) -> tuple[Votes, list[int]]:
        index = self._descriptors[source.extraction.channel]
        votes = vote(*index.nearest(local.descriptors, source.neighbours, source.lists))
        return votes, [row for row, _ in votes.ranking(LISTED)]

    def _reranked(
        self,
        check: str,
        photo: AskedPhoto,
        source: VoteSource,
        votes: Votes,
        rows: Sequence[int],
    ) -> list[int]:
        seen = photo.local[source.extraction][0]
        known = self._local[source.extraction.channel]
        score, scores = CHECKS[check], {}
        for row in rows:
            query, places, weights = votes.of(row)
            kept = one_to_one(query, places, weights)
            own = known[row].take(places[kept])
            scores[row] = score(Matched(seen.take(query[kept]), own, weights[kept]))
        return sorted(rows, key=lambda row: -scores[row])


def interleaved(shortlists: Sequence[Shortlist]) -> Shortlist:
    """The union of shortlists in turns, the best of each first, as long as one; their times added."""
    turns = zip_longest(*(each.references for each in shortlists))
    names = dict.fromkeys(name for turn in turns for name in turn if name is not None)
    return Shortlist(
        tuple(names)[:LISTED],
        tuple(dict.fromkeys(part for each in shortlists for part in each.parts)),
        sum(each.extraction for each in shortlists),
        sum(each.search for each in shortlists),
    )


def dominant_similarity(matched: Matched) -> float:
    """The weight of the matches that turn and scale the reference alike.

    Each match tells a rotation and a scale by itself; the heaviest of overlapping bins of the two
    counts. This is weak geometric consistency (Jégou et al., 2008).
    """
    seen, known = matched.query, matched.reference
    turn = np.floor((seen.angles - known.angles) / (2 * np.pi) * TURNS).astype(int) % TURNS
    ratio = np.maximum(seen.scales, FINEST) / np.maximum(known.scales, FINEST)
    octave = np.floor(np.log2(ratio).clip(-OCTAVES, OCTAVES - 1)).astype(int) + OCTAVES
    bins = turn * 2 * OCTAVES + octave
    sums = np.bincount(bins, matched.weights, TURNS * 2 * OCTAVES).reshape(TURNS, 2 * OCTAVES)
    # Two neighbours each way, so that no agreement is cut by a border.
    wide = sums + np.roll(sums, 1, axis=0)
    return float((wide[:, 1:] + wide[:, :-1]).max())


def inlier_count(matched: Matched) -> float:
    """How many matches agree with one homography that is plausible."""
    geometry = verify(matched.query, matched.reference)
    return float(geometry.inliers) if geometry and geometry.plausible else 0.0


CHECKS: dict[str, Check] = {"similarity": dominant_similarity, "inliers": inlier_count}


class _AdjustableIndex(DescriptorIndex):
    """A descriptor index that can be searched more or less widely."""

    @property
    def code_size(self) -> int:
        """The bytes of a stored descriptor."""
        return int(self._index.code_size)

    def nearest(self, descriptors: Pixels, neighbours: int, lists: int) -> tuple[Floats, Ints]:
        """Finds distances and ids as ``search``, both [n, neighbours], in so many lists."""
        self._index.nprobe = lists
        binary = isinstance(self._index, faiss.IndexBinary)
        values = np.ascontiguousarray(descriptors, np.uint8 if binary else np.float32)
        distances, ids = self._index.search(values, neighbours)
        return distances.astype(np.float32), ids


def _varied(bundle: Bundle, channel: Channel) -> Iterator[VoteSource]:
    extractor = bundle.extractors[channel]
    voting = min(extractor.query_count, VOTING_KEYPOINTS)
    asked = Extraction(channel, voting, extractor.long_side)
    usual = VoteSource(channel, asked, NEIGHBOURS, LISTS_PROBED)
    yield usual
    others = {f"{n} descriptors": replace(asked, descriptors=n) for n in DESCRIPTORS}
    others |= {f"{n} px": replace(asked, side=n) for n in SIDES}
    others["centre too"] = replace(asked, centre=True)
    for change, other in others.items():
        if other != asked:
            yield replace(usual, name=f"{channel}, {change}", extraction=other)
    for count in sorted({*NEIGHBOURS_TRIED} - {usual.neighbours}):
        yield replace(usual, name=f"{channel}, {count} neighbours", neighbours=count)
    for count in sorted({*LISTS_TRIED} - {usual.lists}):
        yield replace(usual, name=f"{channel}, {count} lists", lists=count)


def _extract(extractor: Extractor, picture: Pixels, extraction: Extraction) -> LocalFeatures:
    extractor = copy(extractor)
    extractor.long_side = extraction.side
    whole = _strongest(extractor, picture, extraction.descriptors)
    if not extraction.centre:
        return whole
    # Of the photo as it is looked at: its middle holds no finer detail than the whole.
    middle = _middle(scaled(picture, extraction.side))
    inner = _strongest(extractor, middle, extraction.descriptors)
    points, scales = (1 - CENTRE) / 2 + CENTRE * inner.points, CENTRE * inner.scales
    return joined([whole, replace(inner, points=points, scales=scales)])


def _strongest(extractor: Extractor, picture: Pixels, count: int) -> LocalFeatures:
    """The strongest of as many keypoints as the recognition finds, as those vote."""
    found = extractor.extract(picture, max(extractor.query_count, count))
    return found.take(np.arange(min(len(found), count)))


def _geometry_bytes(local: LocalFeatures) -> int:
    return local.points.nbytes + local.scales.nbytes + local.angles.nbytes


def _middle(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    top, left = (round(side * (1 - CENTRE) / 2) for side in (height, width))
    return picture[top : height - top, left : width - left]


def timed(work: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """What ``work`` returns for the arguments, and the milliseconds that it took."""
    start = time.perf_counter()
    result = work(*arguments)
    return result, 1000 * (time.perf_counter() - start)
