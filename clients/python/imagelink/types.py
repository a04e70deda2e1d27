"""What the client answers: plain, immutable values without protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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

    similarity: float | None
    """Cosine of the embeddings; None where the photo was recognised without its own."""
    vote_share: float
    inliers: int
    inlier_ratio: float
    coverage: float
    matches: int
    agreement: float


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


class Verdict(StrEnum):
    """What was decided of a reference."""

    ACCEPTED = "accepted"
    SAME_PLACE_AS_BETTER = "same_place_as_better"
    BELOW_THRESHOLD = "below_threshold"
    IMPLAUSIBLE_QUAD = "implausible_quad"
    NOT_A_CANDIDATE = "not_a_candidate"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"
    """The server is newer than this client and has a verdict which it does not know."""

    @property
    def explanation(self) -> str:
        """The verdict in plain words."""
        return _VERDICTS[self]


_VERDICTS = {
    Verdict.ACCEPTED: "accepted",
    Verdict.SAME_PLACE_AS_BETTER: "another reference fits this place better",
    Verdict.BELOW_THRESHOLD: "not certain enough",
    Verdict.IMPLAUSIBLE_QUAD: "the matches agree on an impossible shape",
    Verdict.NOT_A_CANDIDATE: "too little in common",
    Verdict.INACTIVE: "inactive, so no scan looks for it",
    Verdict.UNKNOWN: "a verdict that this client does not know",
}


@dataclass(frozen=True)
class Explanation:
    """Why a reference was found in a photo, or why it was not."""

    reference: str
    """Resource name: ``publishers/{publisher}/references/{reference}``."""
    verdict: Verdict
    accepted: bool
    probability: float
    threshold: float
    """The probability from which on it is accepted; 0 where it was not compared."""
    channel: str
    """The kind of local features that was compared; empty where none was."""
    photo_keypoints: int
    """How many of them the photo has."""
    location: Quad | None
    """None where the reference was not compared with the photo, as for ``evidence``."""
    evidence: Evidence | None
    picture: bytes = field(repr=False)
    """JPEG; empty where the reference was deleted in the meantime."""

    @property
    def reference_id(self) -> str:
        """The last part of the reference's resource name."""
        return _last_segment(self.reference)


@dataclass(frozen=True)
class ExplanationResult:
    """What became of the references that were compared with a photo."""

    explanations: tuple[Explanation, ...]
    """The accepted ones first, then those nearest to acceptance."""
    no_match_reason: NoMatchReason | None
    """Why a scan finds nothing; None where it finds something."""
    model_version: str
    gallery_version: int


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


class ViewingCondition(StrEnum):
    """What makes a rendered photo hard, beside its distance."""

    CLEAR = "clear"
    TILTED = "tilted"
    BLURRED = "blurred"
    DIM = "dim"
    GLARE = "glare"
    COVERED = "covered"
    UNKNOWN = "unknown"
    """The server is newer than this client and has a condition which it does not know."""


class ImageIssueKind(StrEnum):
    """What may be wrong with an image."""

    TOO_FEW_DETAILS = "too_few_details"
    LOW_CONTRAST = "low_contrast"
    DETAILS_CLUSTERED = "details_clustered"
    DETAILS_TOO_FINE = "details_too_fine"
    REPETITIVE = "repetitive"
    RESOLUTION_TOO_LOW = "resolution_too_low"
    ALREADY_REGISTERED = "already_registered"
    CONFUSABLE = "confusable"
    UNKNOWN = "unknown"
    """The server is newer than this client and found an issue which it does not know."""


@dataclass(frozen=True)
class ConditionForecast:
    """How often an image is recognised in photos of one condition."""

    condition: ViewingCondition
    frame_share: float
    """Mean share of the frame that the image takes."""
    view_count: int
    detection_rate: float


@dataclass(frozen=True)
class PrintSize:
    """The least size of a print for photos from a distance."""

    distance_m: float
    width_cm: float
    height_cm: float


@dataclass(frozen=True)
class Duplicate:
    """A registered reference with the same image."""

    reference: str
    """Resource name: ``publishers/{publisher}/references/{reference}``."""
    probability: float
    coverage: float

    @property
    def reference_id(self) -> str:
        """The last part of the reference's resource name."""
        return _last_segment(self.reference)


@dataclass(frozen=True)
class Rival:
    """A reference that an image may be confused with."""

    reference: str
    """Resource name: ``publishers/{publisher}/references/{reference}``."""
    wrong_share: float
    """Share of the rendered photos that were answered with it."""
    margin: float
    """The greatest of its log-odds above the acceptance threshold; below 0 it was never accepted."""

    @property
    def reference_id(self) -> str:
        """The last part of the reference's resource name."""
        return _last_segment(self.reference)


@dataclass(frozen=True)
class ImageIssue:
    """What may be wrong with an image, and what to change."""

    kind: ImageIssueKind
    advice: str


@dataclass(frozen=True)
class Assessment:
    """How well an image will scan, by phone photos that the server rendered of it."""

    detection_rate: float
    """Share of the photos in which it is recognised. The photos are a mix of easy and hard ones."""
    view_count: int
    mean_margin: float
    """The mean of its log-odds above the acceptance threshold; the more the better."""
    conditions: tuple[ConditionForecast, ...]
    min_frame_share: float | None
    """The least share of the frame at which clear photos are recognised; None if there is none."""
    min_print_sizes: tuple[PrintSize, ...]
    duplicates: tuple[Duplicate, ...]
    rivals: tuple[Rival, ...]
    issues: tuple[ImageIssue, ...]
    model_version: str
    gallery_version: int


@dataclass(frozen=True)
class Written:
    """A reference as written, and the gallery version that has it."""

    reference: Reference
    gallery_version: int
    """Give it to ``scan`` as ``min_gallery_version`` to be sure that the scan sees the write."""
    assessment: Assessment | None = None
    """None where it was not asked for, and where the server had no time for it."""


@dataclass(frozen=True)
class AddedImage:
    """A reference with a further image, the image's id, and the gallery version that has it."""

    reference: Reference
    gallery_version: int
    image_id: str


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
    scan_weight: int = 1
    """Where scans wait, publishers take turns, and this many scans are its turn."""
    max_scans_per_second: float = 0.0
    """Its quota of scans at each scanner; 0 is no limit."""
    max_references: int = 0
    """Its quota of references; 0 is no limit."""
    max_kept_scans: int = 0
    """How many photos of its scans it agreed to have kept; 0 is no consent."""

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
    """None while the key was not revoked."""
    expire_time: datetime | None = None
    """From when on it opens nothing; None for a key that never expires."""

    @property
    def id(self) -> str:
        """The last part of the resource name."""
        return _last_segment(self.name)


def _last_segment(name: str) -> str:
    return name.rpartition("/")[2]
