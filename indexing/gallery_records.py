"""What the gallery store takes and gives, beside the entities themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from indexing.reference import ApiKey, Publisher, Reference, ReferenceImage

MAX_IMAGES = 16
"""How many images a reference may have."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key with the SHA-256 of its secret, and its publisher (None for an operator's)."""

    key: ApiKey
    secret_sha256: bytes
    publisher: Publisher | None


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """An image as one model version sees it.

    ``embedding`` is a vector of little-endian float16; ``local_features`` is what the model
    version's own code wrote, opaque here. Both are empty where the version can make nothing of the
    image, which its indexes leave out then.
    """

    model_version: str
    embedding: bytes
    local_features: bytes


def unusable(model_version: str) -> ImageFeatures:
    """What is kept of an image that a model version can make nothing of."""
    return ImageFeatures(model_version, b"", b"")


@dataclass(frozen=True, slots=True)
class NewReference:
    """A reference to register. ``fingerprint`` is a digest of what the caller asked for.

    ``features`` are those of each model version that images need to have.

    With a ``request_id``, a second registration of the same fingerprint is a replay.
    """

    publisher: str
    reference_id: str
    link: str
    metadata: Mapping[str, str]
    image: ReferenceImage
    features: tuple[ImageFeatures, ...]
    request_id: str | None
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to add to a reference that is there."""

    publisher: str
    reference_id: str
    image: ReferenceImage
    features: tuple[ImageFeatures, ...]


@dataclass(frozen=True, slots=True)
class ReferenceFilter:
    """Which references to list: those that pass every condition; without any, all.

    ``id_prefixes`` are what the id begins with, ``metadata`` entries (key, value), and
    ``metadata_keys`` keys with any value.
    """

    active: tuple[bool, ...] = ()
    ids: tuple[str, ...] = ()
    id_prefixes: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    metadata_keys: tuple[str, ...] = ()


EVERY_REFERENCE = ReferenceFilter()


@dataclass(frozen=True, slots=True)
class Written:
    """A reference as it is now, and the gallery version that has the write."""

    reference: Reference
    gallery_version: int


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """An image's features under the model version that was asked for (see ImageFeatures)."""

    image_id: str
    embedding: bytes
    local_features: bytes


@dataclass(frozen=True, slots=True)
class ChangedReference:
    """A reference as an index needs it; images that its version cannot use are left out."""

    reference_id: str
    active: bool
    link: str
    metadata: Mapping[str, str]
    images: tuple[IndexedImage, ...]


@dataclass(frozen=True, slots=True)
class GalleryDelta:
    """What turns an index of an earlier gallery version into one of ``gallery_version``.

    Where ``complete``, ``changed`` is the whole gallery and replaces whatever was there.
    ``create_time`` is the publisher's: when it differs from the last one seen, the id was
    deleted and given again, and versions of the two cannot be compared.
    """

    gallery_version: int
    create_time: datetime
    complete: bool
    changed: list[ChangedReference]
    removed: list[str]
