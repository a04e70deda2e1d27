"""References of a gallery with their images' features, packed in few arrays.

A million references as objects would cost more than their embeddings. In arrays they may also lie in
a mapped file, from which the system takes only the pages that are read.
"""

import json
import mmap
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexing.features import KEYPOINT_FIELDS, ReferenceFeatures, Tensors, dequantised, quantised
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.voting import Ints

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class IndexedReference:
    """A reference as an index needs it: what a match answers, and its images' features."""

    id: str
    link: str
    metadata: Mapping[str, str]
    images: tuple[ReferenceFeatures, ...]


class Segment:
    """Some references in the order of their ids, and their images in the order of the references.

    The ``tensors`` are, for r references with n images: ``ids`` and ``answers`` (JSON of link and
    metadata), UTF-8 as uint8 [bytes], each with its ``…_ends``, int64 [r]; ``image_ends``, int64 [r];
    ``embeddings``, float16 [n, dimension]; ``thumbnails``, uint8 [n, 32, 32]; ``aspects``, float32
    [n]; and of each channel what ``quantised`` makes of all keypoints, with ``CHANNEL.ends``, int64
    [n], and perhaps more that has a row for each keypoint. They may all lie in a ``mapped`` file.
    """

    def __init__(self, tensors: Tensors, mapped: mmap.mmap | None = None) -> None:
        self.tensors = tensors
        self._mapped = mapped
        self._ids = _Texts(tensors["ids"], tensors["id_ends"])
        self._answers = _Texts(tensors["answers"], tensors["answer_ends"])

    @classmethod
    def of(cls, references: Sequence[IndexedReference]) -> "Segment":
        """Packs references, each with at least one image."""
        ordered = sorted(references, key=lambda reference: reference.id.encode())
        images = [image for reference in ordered for image in reference.images]
        tensors: Tensors = {
            "image_ends": _ends([len(reference.images) for reference in ordered]),
            "embeddings": np.concatenate([i.embedding.vectors for i in images]).astype(np.float16),
            "thumbnails": np.stack([image.thumbnail for image in images]),
            "aspects": np.array([image.local[Channel.ORB].aspect for image in images], np.float32),
        }
        tensors["ids"], tensors["id_ends"] = _packed_texts([r.id.encode() for r in ordered])
        answers = [json.dumps([r.link, dict(r.metadata)]).encode() for r in ordered]
        tensors["answers"], tensors["answer_ends"] = _packed_texts(answers)
        for channel in Channel:
            local = [image.local[channel] for image in images]
            tensors[f"{channel}.ends"] = _ends([len(features) for features in local])
            packed = [quantised(features) for features in local]
            for name in KEYPOINT_FIELDS:
                tensors[f"{channel}.{name}"] = np.concatenate([each[name] for each in packed])
        return cls(tensors)

    @property
    def references(self) -> int:
        """How many references there are."""
        return len(self._ids)

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.tensors["aspects"])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that are not in a file."""
        return 0 if self._mapped else sum(values.nbytes for values in self.tensors.values())

    def release(self) -> None:
        """Gives back the memory of a mapped file's pages; they are read again where needed."""
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def find(self, reference_id: str) -> int | None:
        """The number of a reference, or None."""
        key = reference_id.encode()
        number = bisect_left(self._ids, key)
        return number if number < len(self._ids) and self._ids[number] == key else None

    def images_of(self, number: int) -> range:
        """The numbers of a reference's images."""
        return _span(self.tensors["image_ends"], number)

    def reference_of(self, image: int) -> int:
        """The number of an image's reference."""
        return int(np.searchsorted(self.tensors["image_ends"], image, "right"))

    def id(self, number: int) -> str:
        """The id of a reference."""
        return self._ids[number].decode()

    def ids_of(self, images: Ints) -> list[str]:
        """The ids of the references of images, int64 [n] their numbers."""
        references = np.searchsorted(self.tensors["image_ends"], images, "right")
        return self._ids.decoded(references)

    def answer(self, number: int) -> tuple[str, dict[str, str]]:
        """The link and the metadata of a reference."""
        link, metadata = json.loads(self._answers[number])
        return link, metadata

    def descriptors(self, channel: Channel) -> Pixels:
        """The descriptors of all images, uint8 [m, bytes]."""
        return np.asarray(self.tensors[f"{channel}.descriptors"])

    def with_lists(self, lists: Mapping[Channel, npt.NDArray[np.uint16]]) -> "Segment":
        """The same with the list of each descriptor, uint16 [m], as ``CHANNEL.lists``."""
        named = {f"{channel}.lists": values for channel, values in lists.items()}
        return Segment(self.tensors | named)

    def embedding(self, image: int) -> Halves:
        """The vector of an image, float16 [1, dimension]."""
        return self.tensors["embeddings"][image : image + 1]

    def thumbnail(self, image: int) -> Pixels:
        """The thumbnail of an image, uint8 [32, 32]."""
        return np.asarray(self.tensors["thumbnails"][image])

    def local(self, image: int, channel: Channel) -> LocalFeatures:
        """The local features of an image."""
        span = _span(self.tensors[f"{channel}.ends"], image)
        rows = slice(span.start, span.stop)
        found = {name: self.tensors[f"{channel}.{name}"][rows] for name in KEYPOINT_FIELDS}
        return dequantised(found, float(self.tensors["aspects"][image]))

    def images_in(self, numbers: Ints) -> Ints:
        """The numbers of the images of the given references, one after the other."""
        return _gathered(self.tensors["image_ends"], numbers)[0]

    def ends_of(self, images: Ints, channel: Channel) -> Ints:
        """Where the keypoints of each of the given images end, if they are one after the other."""
        return _gathered(self.tensors[f"{channel}.ends"], images)[1]

    def take(self, numbers: Ints) -> "Segment":
        """The given references, in rising order of their ids as here."""
        old = self.tensors
        images, image_ends = _gathered(old["image_ends"], numbers)
        new: Tensors = {"image_ends": image_ends}
        for name, ends in (("ids", "id_ends"), ("answers", "answer_ends")):
            rows, new[ends] = _gathered(old[ends], numbers)
            new[name] = old[name][rows]
        for name in ("embeddings", "thumbnails", "aspects"):
            new[name] = old[name][images]
        for channel in Channel:
            rows, new[f"{channel}.ends"] = _gathered(old[f"{channel}.ends"], images)
            for name in old:
                if name.startswith(f"{channel}.") and name not in new:
                    new[name] = old[name][rows]
        return Segment(new)


def joined(parts: Sequence[Segment]) -> Segment:
    """One segment of several, whose references are all different."""
    if len(parts) == 1:
        return parts[0]
    tensors: Tensors = {}
    for name in parts[0].tensors:
        values = [part.tensors[name] for part in parts]
        if name.endswith("ends"):
            last = [int(ends[-1]) if len(ends) else 0 for ends in values]
            before = np.cumsum([0, *last[:-1]])
            values = [ends + start for ends, start in zip(values, before, strict=True)]
        tensors[name] = np.concatenate(values)
    whole = Segment(tensors)
    order = sorted(range(whole.references), key=lambda number: whole.id(number).encode())
    return whole.take(np.array(order, np.int64))


class _Texts(Sequence[bytes]):
    """Byte strings one after the other in an array."""

    def __init__(self, packed: npt.NDArray[np.uint8], ends: Ints) -> None:
        self._packed = packed
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]
        span = _span(self._ends, number)
        return self._packed[span.start : span.stop].tobytes()

    def decoded(self, numbers: Ints) -> list[str]:
        """Those of the given numbers as texts."""
        ends = self._ends[numbers]
        starts = np.where(numbers > 0, self._ends[numbers - 1], 0)
        # Slicing an array takes several times as long.
        packed = self._packed.data
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        return [str(packed[start:end], "utf-8") for start, end in spans]


def _packed_texts(texts: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], Ints]:
    return np.frombuffer(b"".join(texts), np.uint8), _ends([len(text) for text in texts])


def _ends(lengths: Sequence[int]) -> Ints:
    return np.cumsum(lengths, dtype=np.int64)


def _span(ends: Ints, number: int) -> range:
    return range(int(ends[number - 1]) if number else 0, int(ends[number]))


def _gathered(ends: Ints, numbers: Ints) -> tuple[Ints, Ints]:
    """The rows of the given entries, one after the other, and where each ends among them."""
    counts = np.diff(ends, prepend=0)[numbers]
    starts = ends[numbers] - counts
    new_ends = np.cumsum(counts)
    offsets = np.repeat(starts - (new_ends - counts), counts)
    return (np.arange(len(offsets)) + offsets).astype(np.int64), new_ends
