"""Global embeddings of pictures: vectors that know their model version."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from indexing.errors import ModelVersionMismatch
from indexing.image import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors of one model version: float32 [n, dimension], each of length 1."""

    version: str
    vectors: npt.NDArray[np.float32]

    def rows(self) -> "list[Embeddings]":
        """Each vector by itself, float32 [1, dimension]."""
        return [Embeddings(self.version, vector[None]) for vector in self.vectors]

    def similarity(self, other: "Embeddings") -> npt.NDArray[np.float32]:
        """Cosines with another's vectors: float32 [n, m]. Both must be of the same version."""
        if self.version != other.version:
            raise ModelVersionMismatch(got=other.version, expected=self.version)
        return self.vectors @ other.vectors.T


class Embedder(Protocol):
    """Embeds pictures with one model version."""

    version: str
    uses_gpu: bool

    def embed(self, photos: Sequence[Pixels]) -> Embeddings:
        """Embed photos, RGB uint8 [h, w, 3] of any sizes."""
        ...

    def embed_references(self, pictures: Sequence[Pixels]) -> Embeddings:
        """Embed clean pictures that fill their frame, as ``embed``."""
        ...
