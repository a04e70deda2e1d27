"""The in-memory galleries of the publishers placed on one shard: search, vote and verify.

Everything here is derived: a gallery is brought to a version by the delta of its references, and
can be dropped and built again at any time.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from indexing.appearance import NO_AGREEMENT, agreement
from indexing.bundle import Bundle
from indexing.decision import Candidate, Evidence
from indexing.descriptor_index import DescriptorIndex, Index
from indexing.embedding import Embeddings
from indexing.errors import ModelVersionMismatch
from indexing.features import ReferenceFeatures
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.verification import one_to_one, verify
from indexing.voting import Floats, Ints, Votes, match, vote

CANDIDATES_BY_VOTES = 20
CANDIDATES_BY_SIMILARITY = 4
LISTED_CANDIDATES = 50
# The best by votes and by similarity are matched directly where their votes do not convince.
MATCHED_BY_VOTES = 4
MATCHED_BY_SIMILARITY = 1
CONVINCING_SIGNIFICANCE = 50.0

Correspondence = tuple[Ints, Ints, Floats]


@dataclass(frozen=True, slots=True)
class Query:
    """What a shard is asked about one photo: one embedding, one channel's local features.

    ``photo`` is its place in the batch, ``levels`` its grey levels (``appearance.photo_levels``);
    the gallery must be at least at ``min_gallery_version``.
    """

    photo: int
    publisher: str
    embedding: Embeddings
    channel: Channel
    local: LocalFeatures
    levels: Pixels
    min_gallery_version: int = 0


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
class IndexedReference:
    """A reference as an index needs it: what a match answers, and its images' features."""

    id: str
    link: str
    metadata: Mapping[str, str]
    images: tuple[ReferenceFeatures, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    reference: str
    link: str
    metadata: Mapping[str, str]
    local: Mapping[Channel, LocalFeatures]
    thumbnail: Pixels


class GalleryIndex:
    """The indexes of one publisher under one model version."""

    def __init__(self, model_version: str, channels: Mapping[Channel, list[Index]]) -> None:
        self.version = 0
        self._model_version = model_version
        self._embeddings: Index = None
        self._descriptors = {
            channel: DescriptorIndex(channel, quantizers)
            for channel, quantizers in channels.items()
        }
        self._rows: dict[int, _Row] = {}
        self._rows_of: dict[str, list[int]] = {}
        self._next_row = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows_of)

    def apply(
        self, version: int, changed: Sequence[IndexedReference], removed: Sequence[str]
    ) -> None:
        """Brings the gallery to ``version``: sets the changed references, drops the removed.

        Raises ModelVersionMismatch where an embedding is of another model version.
        """
        for reference in changed:
            for image in reference.images:
                self._check(image.embedding)
        with self._lock:
            for name in [*removed, *(reference.id for reference in changed)]:
                self._remove(name)
            self._add([(ref, image) for ref in changed for image in ref.images])
            self.version = version

    def search(self, query: Query) -> SearchResult:
        """Finds and verifies the references that resemble a photo.

        Raises ModelVersionMismatch where the query's embedding is of another model version.
        """
        self._check(query.embedding)
        with self._lock:
            if not self._rows or self._embeddings is None:
                return SearchResult(self.version, len(self), (), ())
            votes = vote(*self._descriptors[query.channel].search(query.local.descriptors))
            similar = self._most_similar(query.embedding)
            by_votes = votes.ranking(LISTED_CANDIDATES)
            candidates = tuple(self._verified(query, votes, by_votes, list(similar)))
            ranked = dict.fromkeys([row for row, _ in by_votes] + list(similar))
            shortlist = dict.fromkeys(self._rows[row].reference for row in ranked)
            return SearchResult(self.version, len(self), candidates, tuple(shortlist))

    def _check(self, embeddings: Embeddings) -> None:
        if embeddings.version != self._model_version:
            raise ModelVersionMismatch(got=embeddings.version, expected=self._model_version)

    def _add(self, images: Sequence[tuple[IndexedReference, ReferenceFeatures]]) -> None:
        if not images:
            return
        numbers = np.arange(self._next_row, self._next_row + len(images))
        self._next_row += len(images)
        for number, (ref, image) in zip(numbers.tolist(), images, strict=True):
            row = _Row(ref.id, ref.link, ref.metadata, image.local, image.thumbnail)
            self._rows[number] = row
            self._rows_of.setdefault(ref.id, []).append(number)
        vectors = np.concatenate([image.embedding.vectors for _, image in images])
        if self._embeddings is None:
            self._embeddings = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
        self._embeddings.add_with_ids(vectors, numbers)
        for channel, index in self._descriptors.items():
            local = [image.local[channel] for _, image in images]
            counts = np.array([len(features) for features in local])
            index.add(numbers, counts, np.concatenate([features.descriptors for features in local]))

    def _remove(self, name: str) -> None:
        for row in self._rows_of.pop(name, ()):
            del self._rows[row]
            for index in self._descriptors.values():
                index.remove(row)
            if self._embeddings is not None:
                self._embeddings.remove_ids(np.array([row], np.int64))

    def _most_similar(self, embedding: Embeddings) -> dict[int, float]:
        assert self._embeddings is not None
        scores, rows = self._embeddings.search(embedding.vectors, LISTED_CANDIDATES)
        found = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return {row: score for row, score in found if row >= 0}

    def _verified(
        self, query: Query, votes: Votes, by_votes: list[tuple[int, float]], similar: list[int]
    ) -> Iterator[Candidate]:
        shares = dict(by_votes)
        best = [row for row, _ in by_votes[:CANDIDATES_BY_VOTES]]
        matched = {*best[:MATCHED_BY_VOTES], *similar[:MATCHED_BY_SIMILARITY]}
        for number in dict.fromkeys(best + similar[:CANDIDATES_BY_SIMILARITY]):
            share = shares.get(number, 0.0)
            evidence = self._evidence(query, number, share, votes.of(number))
            # Binary descriptors answer at once or not at all: RootSIFT has the last word.
            if query.channel is Channel.SIFT and number in matched and not _convincing(evidence):
                correspondence = match(*self._descriptors_of(query, number))
                evidence = _better(evidence, self._evidence(query, number, share, correspondence))
            if evidence is not None:
                row = self._rows[number]
                yield Candidate(row.reference, row.link, row.metadata, evidence)

    def _descriptors_of(self, query: Query, number: int) -> tuple[Floats, Floats]:
        own = self._rows[number].local[query.channel]
        return query.local.descriptors.astype(np.float32), own.descriptors.astype(np.float32)

    def _evidence(
        self, query: Query, number: int, share: float, correspondence: Correspondence
    ) -> Evidence | None:
        row = self._rows[number]
        descriptors, places, weights = correspondence
        kept = one_to_one(descriptors, places, weights)
        own = row.local[query.channel].take(places[kept])
        geometry = verify(query.local.take(descriptors[kept]), own)
        if geometry is None:
            return None
        alike = NO_AGREEMENT
        if geometry.plausible:
            alike = agreement(query.levels, geometry.quad, row.thumbnail)
        similarity = self._similarity(query.embedding, number)
        return Evidence(query.channel, similarity, share, geometry, alike)

    def _similarity(self, embedding: Embeddings, number: int) -> float:
        assert self._embeddings is not None
        own = Embeddings(self._model_version, self._embeddings.reconstruct(number)[None])
        return float(embedding.similarity(own)[0, 0])


def _convincing(evidence: Evidence | None) -> bool:
    return (
        evidence is not None
        and evidence.geometry.plausible
        and evidence.significance >= CONVINCING_SIGNIFICANCE
    )


def _better(first: Evidence | None, second: Evidence | None) -> Evidence | None:
    found = [evidence for evidence in (first, second) if evidence is not None]
    return max(found, key=lambda e: (e.geometry.plausible, e.significance), default=None)


class Shard:
    """The galleries of the publishers placed here, all under one model version."""

    def __init__(self, bundle: Bundle) -> None:
        self._model_version = bundle.version
        self._quantizers = {
            channel: codebook.quantizers() for channel, codebook in bundle.codebooks.items()
        }
        self._galleries: dict[str, GalleryIndex] = {}

    def replace(self, publisher: str, version: int, references: Sequence[IndexedReference]) -> None:
        """Sets a publisher's whole gallery."""
        gallery = GalleryIndex(self._model_version, self._quantizers)
        gallery.apply(version, references, ())
        self._galleries[publisher] = gallery

    def apply(
        self,
        publisher: str,
        version: int,
        changed: Sequence[IndexedReference],
        removed: Sequence[str],
    ) -> None:
        """Brings a publisher's gallery, which must be here, from its version to a later one."""
        self._galleries[publisher].apply(version, changed, removed)

    def drop(self, publisher: str) -> None:
        """Forgets a publisher's gallery."""
        self._galleries.pop(publisher, None)

    def search(self, query: Query) -> SearchResult:
        """Searches the query's publisher's gallery, which must be loaded."""
        return self._galleries[query.publisher].search(query)
