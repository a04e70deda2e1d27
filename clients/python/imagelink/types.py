"""What the client answers: plain, immutable values without protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class NoMatchReason(StrEnum):
    """Why a scan found nothing."""

    NOTHING_REGISTERED = "nothing_registered"
    NOTHING_SIMILAR = "nothing_similar"
    NOT_VERIFIED = "not_verified"
    AMBIGUOUS = "ambiguous"
    IMAGE_TOO_POOR = "image_too_poor"
    UNKNOWN = "unknown"
    """The server is newer than this client and gave a reason which it does not know."""

    @property
    def explanation(self) -> str:
        """The reason in plain words."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    NoMatchReason.NOTHING_REGISTERED: "the publisher has no active references",
    NoMatchReason.NOTHING_SIMILAR: "no reference resembles the photo",
    NoMatchReason.NOT_VERIFIED: "some references resemble the photo, but none stands in it",
    NoMatchReason.AMBIGUOUS: "no reference is certain enough",
    NoMatchReason.IMAGE_TOO_POOR: "the photo is too small, dark, plain or blurred",
    NoMatchReason.UNKNOWN: "no match, for a reason that this client does not know",
}


class Role(StrEnum):
    """What an API key may do."""

    SCAN = "scan"
    """Scan photos."""
    PUBLISH = "publish"
    """Scan photos and manage references."""
    OPERATE = "operate"
    """Manage publishers and their keys."""
    UNKNOWN = "unknown"
    """The server is newer than this client and has a role which it does not know."""


@dataclass(frozen=True)
class Point:
    """A position in a photo, in pixels from its top left corner."""

    x: float
    y: float


@dataclass(frozen=True)
class Quad:
    """The corners of a reference in a photo, clockwise as seen on the printed thing."""

    top_left: Point
    top_right: Point
    bottom_right: Point
    bottom_left: Point


@dataclass(frozen=True)
class Evidence:
    """What was measured between a photo and a reference."""

    similarity: float
    vote_share: float
    inliers: int
    inlier_ratio: float
    coverage: float


@dataclass(frozen=True)
class Match:
    """A reference found in a photo."""

    reference: str
    """Resource name: ``publishers/{publisher}/references/{reference}``."""
    link: str
    metadata: Mapping[str, str]
    probability: float
    location: Quad
    evidence: Evidence

    @property
    def reference_id(self) -> str:
        """The last part of the reference's resource name."""
        return _last_segment(self.reference)


@dataclass(frozen=True)
class ScanResult:
    """The answer to a scan; true where something was recognised."""

    matches: tuple[Match, ...]
    """The most probable first."""
    no_match_reason: NoMatchReason | None
    """Why ``matches`` is empty; None where it is not."""
    model_version: str
    gallery_version: int
    scan_id: str
    timings: Mapping[str, float]
    """Seconds by stage, in the order of the stages."""

    def __bool__(self) -> bool:
        return bool(self.matches)

    @property
    def best(self) -> Match | None:
        """The most probable match, if there is any."""
        return self.matches[0] if self.matches else None


@dataclass(frozen=True)
class ReferenceImage:
    """An image by which a reference is recognised."""

    image_id: str
    width: int
    height: int
    sha256: bytes


@dataclass(frozen=True)
class Reference:
    """A printed thing that can be recognised."""

    name: str
    """Resource name: ``publishers/{publisher}/references/{reference}``."""
    link: str
    metadata: Mapping[str, str]
    active: bool
    images: tuple[ReferenceImage, ...]
    create_time: datetime
    update_time: datetime

    @property
    def id(self) -> str:
        """The last part of the resource name."""
        return _last_segment(self.name)


@dataclass(frozen=True)
class Written:
    """A reference as written, and the gallery version that has it."""

    reference: Reference
    gallery_version: int
    """Give it to ``scan`` as ``min_gallery_version`` to be sure that the scan sees the write."""


@dataclass(frozen=True)
class Publisher:
    """A tenant: whoever registers references."""

    name: str
    """Resource name: ``publishers/{publisher}``."""
    display_name: str
    suspended: bool
    false_accept_budget: float
    gallery_version: int
    create_time: datetime

    @property
    def id(self) -> str:
        """The last part of the resource name."""
        return _last_segment(self.name)


@dataclass(frozen=True)
class ApiKey:
    """An API key, without its secret."""

    name: str
    """Resource name: ``publishers/{publisher}/apiKeys/{api_key}``."""
    role: Role
    display_name: str
    create_time: datetime
    revoke_time: datetime | None
    """None while the key is valid."""

    @property
    def id(self) -> str:
        """The last part of the resource name."""
        return _last_segment(self.name)


def _last_segment(name: str) -> str:
    return name.rpartition("/")[2]
