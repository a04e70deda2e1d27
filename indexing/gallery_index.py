"""The indexes of one publisher's gallery in memory, or of a part of it.

Everything here is derived: a gallery is brought to a version by the delta of its references, and
can be dropped and built again at any time.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from indexing.descriptor_index import Assigned, CoarseQuantizers, DescriptorIndex, Lists
from indexing.errors import ModelVersionMismatch
from indexing.image_index import ImageIndex
from indexing.keypoints import Channel
from indexing.search import LISTED_CANDIDATES, Placed, Query, Rows, Search, SearchResult
from indexing.segment import IndexedReference, Segment, joined
from indexing.voting import Ints, Votes, vote

# The strongest keypoints vote; all of them are matched with a candidate.
VOTING_KEYPOINTS = 400

Quantizers = Mapping[Channel, CoarseQuantizers]


@dataclass(frozen=True, slots=True)
class FrozenGallery:
    """A gallery of one version, to be written or read.

    The segment has, as ``CHANNEL.lists``, the list of each descriptor in the codebook's set of
    centroids of this level.
    """

    version: int
    segment: Segment
    levels: Mapping[Channel, int]


class GalleryIndex:
    """The indexes of one gallery, or of a part of one, under one model version.

    It begins with a segment, perhaps a large one in a mapped file; each change adds a small one.
    """

    def __init__(self, model_version: str, quantizers: Quantizers) -> None:
        self.version = 0
        self._model_version = model_version
        self._embeddings: ImageIndex | None = None
        self._descriptors = {
            channel: DescriptorIndex(channel, each) for channel, each in quantizers.items()
        }
        self._placed: list[Placed] = []
        # Where each reference is that came later than the first segment.
        self._later: dict[str, tuple[Placed, int]] = {}
        self._gone: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        first = self._placed[0].segment.references if self._placed else 0
        return first - len(self._gone) + len(self._later)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        indexes = sum(index.nbytes for index in self._descriptors.values())
        segments = sum(placed.segment.nbytes for placed in self._placed)
        return indexes + segments + (self._embeddings.nbytes if self._embeddings else 0)

    @property
    def changes(self) -> int:
        """How many references came or went since the first segment."""
        return len(self._later) + len(self._gone)

    def apply(
        self, version: int, changed: Sequence[IndexedReference], removed: Sequence[str]
    ) -> None:
        """Brings the gallery to ``version``: sets the changed references, drops the removed.

        Raises ModelVersionMismatch where an embedding is of another model version.
        """
        for reference in changed:
            for image in reference.images:
                self._check(image.embedding.version)
        shown = [reference for reference in changed if reference.images]
        segment = Segment.of(shown) if shown else None
        assigned = self._assigned(segment) if segment is not None else {}
        with self._lock:
            self._remove([*removed, *(reference.id for reference in changed)])
            if segment is not None:
                placed = self._place(segment)
                for channel, index in self._descriptors.items():
                    ids, descriptors = placed.descriptor_ids(channel), segment.descriptors(channel)
                    index.add(ids, descriptors, assigned[channel])
            self.version = version

    def _assigned(self, segment: Segment) -> dict[Channel, Assigned]:
        """The lists of new descriptors: most of the work of adding them, done without the lock."""
        return {
            channel: index.assign(segment.descriptors(channel))
            for channel, index in self._descriptors.items()
        }

    def thaw(self, frozen: FrozenGallery) -> None:
        """Fills an empty gallery with what ``freeze`` gave."""
        placed = self._place(frozen.segment)
        for channel, index in self._descriptors.items():
            index.fill(
                frozen.levels[channel],
                frozen.segment.tensors[f"{channel}.lists"],
                placed.descriptor_ids(channel),
                frozen.segment.descriptors(channel),
            )
        # The indexes hold copies of nearly all that they read.
        frozen.segment.release()
        self.version = frozen.version

    def freeze(self) -> FrozenGallery | None:
        """All that is there now, in one segment; None where there is nothing."""
        with self._lock:
            if not len(self):
                return None
            version = self.version
            levels = {channel: index.level for channel, index in self._descriptors.items()}
            kept = [(placed, self._kept(placed)) for placed in self._placed]
            lists = {channel: self._lists(kept, channel) for channel in self._descriptors}
        parts = []
        for number, (placed, numbers) in enumerate(kept):
            found = {channel: each[number] for channel, each in lists.items()}
            parts.append(placed.segment.take(numbers).with_lists(found))
        return FrozenGallery(version, joined(parts), levels)

    def search(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Finds and verifies the references that resemble each photo.

        The queries are of one channel, and all with an embedding or none. Raises
        ModelVersionMismatch where a query's features are of another model version.
        """
        for query in queries:
            self._check(query.model_version)
        with self._lock:
            version, size, rows = self.version, len(self), Rows(self._placed)
            found = self._nearest(queries) if size else []
        if not size:
            return [SearchResult(version, 0, (), ()) for _ in queries]
        searches = [
            Search(query, votes, similar, rows)
            for query, (votes, similar) in zip(queries, found, strict=True)
        ]
        # All at once: names are the dearest of what is not FAISS's.
        names = rows.names(np.array([row for each in searches for row in each.listed], np.int64))
        return [search.result(version, size, names) for search in searches]

    def _check(self, version: str) -> None:
        if version != self._model_version:
            raise ModelVersionMismatch(got=version, expected=self._model_version)

    def _nearest(self, queries: Sequence[Query]) -> list[tuple[Votes, list[int]]]:
        """The votes for images, and the rows of the most similar, for each query."""
        index = self._descriptors[queries[0].channel]
        voting = [query.local.descriptors[:VOTING_KEYPOINTS] for query in queries]
        distances, ids = index.search(np.concatenate(voting))
        ends = np.cumsum([len(descriptors) for descriptors in voting])[:-1]
        votes = map(vote, np.split(distances, ends), np.split(ids, ends))
        return list(zip(votes, self._most_similar(queries), strict=True))

    def _most_similar(self, queries: Sequence[Query]) -> list[list[int]]:
        embeddings = [query.embedding for query in queries if query.embedding]
        if not embeddings or self._embeddings is None:
            return [[] for _ in queries]
        for embedding in embeddings:
            self._check(embedding.version)
        vectors = np.concatenate([embedding.vectors for embedding in embeddings])
        _, rows = self._embeddings.search(vectors, LISTED_CANDIDATES)
        return [[row for row in found if row >= 0] for found in rows.tolist()]

    def _place(self, segment: Segment) -> Placed:
        last = self._placed[-1] if self._placed else None
        placed = Placed(last.first + last.segment.images if last else 0, segment)
        self._placed.append(placed)
        if last is not None:
            for number in range(segment.references):
                self._later[segment.id(number)] = (placed, number)
        vectors = segment.tensors["embeddings"]
        if self._embeddings is None:
            self._embeddings = ImageIndex(vectors.shape[1])
        self._embeddings.add(np.arange(segment.images) + placed.first, vectors)
        return placed

    def _remove(self, names: Sequence[str]) -> None:
        rows = [row for name in names for row in self._forget(name)]
        if rows and self._embeddings is not None:
            self._embeddings.remove(np.array(rows, np.int64))
            for index in self._descriptors.values():
                index.remove(rows)

    def _forget(self, name: str) -> list[int]:
        """Takes a reference out of the books; returns the rows of its images."""
        if name in self._later:
            placed, number = self._later.pop(name)
            return placed.rows_of(number)
        first = self._placed[0] if self._placed else None
        found = first.segment.find(name) if first else None
        if first is None or found is None or found in self._gone:
            return []
        self._gone.add(found)
        return first.rows_of(found)

    def _kept(self, placed: Placed) -> Ints:
        """The numbers of a segment's references that are still there."""
        if placed is self._placed[0]:
            numbers = [n for n in range(placed.segment.references) if n not in self._gone]
        else:
            there = (
                self._later.get(placed.segment.id(n)) for n in range(placed.segment.references)
            )
            numbers = [found[1] for found in there if found is not None and found[0] is placed]
        return np.array(numbers, np.int64)

    def _lists(self, kept: Sequence[tuple[Placed, Ints]], channel: Channel) -> list[Lists]:
        """The lists of the descriptors of each segment's given references."""
        images = [placed.segment.images_in(numbers) for placed, numbers in kept]
        counts = [
            np.diff(placed.segment.ends_of(each, channel), prepend=0)
            for (placed, _), each in zip(kept, images, strict=True)
        ]
        rows = np.concatenate(
            [each + placed.first for (placed, _), each in zip(kept, images, strict=True)]
        )
        lists = self._descriptors[channel].lists_of(rows, np.cumsum(np.concatenate(counts)))
        return np.split(lists, np.cumsum([each.sum() for each in counts])[:-1])
