"""The network of the global embedding as an ONNX graph: what embeds on CPUs.

ONNX Runtime takes two thirds of the time that PyTorch does for one photo, and starts in a tenth of a
second where PyTorch takes seconds and half a gigabyte.
"""

from collections.abc import Sequence

import numpy as np

from indexing.embedding import Embeddings
from indexing.framing import Framing
from indexing.image import Pixels
from indexing.onnx_session import cpu_session


class OnnxEmbedder:
    """Embeds pictures with one model version by ONNX Runtime, in the thread that calls.

    ``graph`` maps framed pictures, uint8 [n, h, w, 3], to unit vectors, float32 [n, dimension]. Raises
    ValueError where it is none, or one of another dimension.
    """

    uses_gpu = False

    def __init__(self, graph: bytes, version: str, framing: Framing, dimension: int) -> None:
        self.version = version
        self._framing = framing
        self._dimension = dimension
        self._session = cpu_session(graph)
        (pictures,), (vectors,) = self._session.get_inputs(), self._session.get_outputs()
        self._pictures = pictures.name
        if vectors.shape[1:] != [dimension]:
            raise ValueError(f"Its graph makes {vectors.shape[1:]}, not {dimension} numbers.")

    def embed(self, photos: Sequence[Pixels]) -> Embeddings:
        """Embed photos, RGB uint8 [h, w, 3] of any sizes."""
        return self._embedded([self._framing.photo(each) for each in photos])

    def embed_references(self, pictures: Sequence[Pixels]) -> Embeddings:
        """Embed clean pictures that fill their frame, as ``embed``."""
        return self._embedded([self._framing.reference(each) for each in pictures])

    def _embedded(self, framed: Sequence[Pixels]) -> Embeddings:
        vectors = np.empty((len(framed), self._dimension), np.float32)
        # One by one: on a core a batch takes as long, and memory for all of it that is kept.
        for place, picture in enumerate(framed):
            (vectors[place : place + 1],) = self._session.run(None, {self._pictures: picture[None]})
        return Embeddings(self.version, vectors)
