"""What the client answers about deletions: plain, immutable values without protobuf."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True)
class Deletion:
    """A reference that was deleted."""

    gallery_version: int
    """The first without it: give it to ``scan`` as ``min_gallery_version``."""
    erasure_receipt: str
    """Name of the receipt, for ``get_erasure_receipt``."""


@dataclass(frozen=True)
class PublisherDeletion:
    """A publisher that was deleted."""

    references_deleted: int
    erasure_receipt: str
    """Name of the receipt, for ``get_erasure_receipt``."""


class ErasureState(StrEnum):
    """Whether an index still holds what was erased."""

    CONFIRMED = "confirmed"
    """It does not, as it confirmed."""
    AWAITED = "awaited"
    """It may, and is waited for."""
    LOST = "lost"
    """It was silent for a minute before it confirmed, so it is taken for ended."""
    UNKNOWN = "unknown"
    """The server is newer than this client and has a state which it does not know."""


@dataclass(frozen=True)
class ErasureConfirmation:
    """What a process that holds an index said of an erasure."""

    shard_replica: str
    state: ErasureState
    confirm_time: datetime | None


@dataclass(frozen=True)
class ErasureReceipt:
    """What was removed by a deletion, and how far that is."""

    name: str
    """Resource name: ``publishers/{publisher}/erasureReceipts/{erasure_receipt}``."""
    subject: str
    """Resource name of the publisher or the reference that was deleted."""
    reference_count: int
    image_count: int
    feature_count: int
    """Rows of features: embedding and keypoints of an image under one model version."""
    blob_count: int
    """Files of images and of kept scans."""
    request_time: datetime
    blob_delete_time: datetime | None
    """When the last file was removed; None while some are left."""
    complete_time: datetime | None
    """When nothing was left, also in every index; None until then."""
    confirmations: tuple[ErasureConfirmation, ...]
    scan_count: int = 0
    """Kept scans: of a reference, those that it was an answer to."""
