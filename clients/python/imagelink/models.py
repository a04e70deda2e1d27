"""What the client answers about model versions and rollouts: plain, immutable values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ModelState(StrEnum):
    """What a model version is doing."""

    UPLOADED = "uploaded"
    """It is registered, and nothing more."""
    BACKFILLING = "backfilling"
    """Registered images get its features."""
    READY = "ready"
    """Every image has its features: it could serve at once."""
    ACTIVE = "active"
    """It serves some publishers, or all."""
    RETIRED = "retired"
    """It served once; its features are deleted."""
    FAILED = "failed"
    """Its last rollout failed."""
    UNKNOWN = "unknown"
    """The server is newer than this client and has a state which it does not know."""


class RolloutState(StrEnum):
    """How far a rollout is."""

    BACKFILLING = "backfilling"
    """Registered images get features of the new version."""
    EVALUATING = "evaluating"
    """Every image has them; the versions are compared."""
    READY = "ready"
    """Publishers can be switched. After a rollback it is in this state too."""
    CANARY = "canary"
    """Some publishers are switched."""
    ACTIVE = "active"
    """All publishers are switched; the former version is kept."""
    COMPLETED = "completed"
    """Ended: all publishers are switched, and the former version is gone."""
    CANCELLED = "cancelled"
    """Ended without having switched anybody."""
    FAILED = "failed"
    """The new version cannot be used; the rollout's ``problem`` says why."""
    UNKNOWN = "unknown"
    """The server is newer than this client and has a state which it does not know."""

    @property
    def ended(self) -> bool:
        """Whether the rollout is no longer under way."""
        return self in {RolloutState.COMPLETED, RolloutState.CANCELLED, RolloutState.FAILED}


@dataclass(frozen=True)
class Model:
    """A version of the model: the whole recipe from a picture to an answer."""

    name: str
    """Resource name: ``models/{version}``."""
    state: ModelState
    architecture: str
    """The backbone of its network."""
    dimension: int
    """The length of its embeddings."""
    parent: str
    """The version that it was trained from, empty for none."""
    trained_on: str
    """What it was trained on, in words."""
    code_commit: str
    """The commit of the code that trained it."""
    metrics: Mapping[str, float]
    """What its evaluation measured."""
    create_time: datetime
    """When it was registered."""
    size_bytes: int
    """The bytes of its two files."""

    @property
    def version(self) -> str:
        """The last part of the resource name."""
        return _last_segment(self.name)


@dataclass(frozen=True)
class Backfill:
    """How far the backfill of a rollout is."""

    done_count: int
    """Images that have features of the new version."""
    image_count: int
    """All images."""
    failed_count: int
    """Images that the new version can make nothing of, or whose file is lost."""
    images_per_second: float
    """Over the last half minute; 0 where it rests."""
    seconds_left: float | None
    """How long it will take at this pace; None where that cannot be told."""


@dataclass(frozen=True)
class ShadowAgreement:
    """Live scans that both versions answered."""

    scan_count: int
    agreed_count: int
    """Those with the same references, or both with none."""
    former_only_count: int
    """Those that only the former version found something in."""
    new_only_count: int
    """Those that only the new version found something in."""


@dataclass(frozen=True)
class ScanRates:
    """How scans went."""

    scan_count: int
    match_rate: float
    """The share of scans that found something, 0 to 1."""
    mean_seconds: float
    """Mean time of a scan in the server."""


@dataclass(frozen=True)
class Rollout:
    """The way of a model version into service."""

    name: str
    """Resource name: ``rollouts/{rollout}``."""
    model: str
    """The new version: ``models/{version}``."""
    former_model: str
    """The version that it replaces: ``models/{version}``."""
    state: RolloutState
    create_time: datetime
    state_time: datetime
    """Since when it is in its state."""
    paused: bool
    """Whether the backfill rests."""
    max_images_per_second: float
    """The most that the backfill takes on; 0 for no limit."""
    shadow_share: float
    """The share of scans, 0 to 1, that the new version answers too without anybody seeing it."""
    backfill: Backfill
    publisher_count: int
    """How many publishers the new version serves."""
    gate_passed: bool | None
    """Whether the comparison of the versions passed; None before it was made."""
    forced: bool
    """Whether it was activated although the comparison had failed."""
    problem: str
    """Why it failed, or was last rolled back; empty where it was not."""
    shadow: ShadowAgreement
    rates: ScanRates
    """Scans of the switched publishers since the last switch."""
    former_rates: ScanRates
    """Theirs in the hour before."""

    @property
    def id(self) -> str:
        """The last part of the resource name."""
        return _last_segment(self.name)

    @property
    def version(self) -> str:
        """The new model version."""
        return _last_segment(self.model)

    @property
    def former_version(self) -> str:
        """The model version that it replaces."""
        return _last_segment(self.former_model)


@dataclass(frozen=True)
class VersionQuality:
    """How a model version did on rendered views of registered references."""

    view_count: int
    recall: float
    """The share of the views that were recognised, 0 to 1."""
    false_accept_rate: float
    """The share of views, of things that were not to be found, with an answer."""
    calibration_error: float
    """The expected calibration error: how far probabilities are from what is true."""
    mean_seconds: float
    """Mean time that recognising a view took."""


@dataclass(frozen=True)
class KeptScanAgreement:
    """Kept scans that both versions answered; nobody knows what these show."""

    scan_count: int
    agreed_count: int
    """Those with the same references, or both with none."""
    lost_count: int
    """Those that the new version finds less in, or nothing."""
    changed_count: int
    """Those that each version finds something in that the other does not."""
    gained_count: int
    """Those that the new version finds more in."""


@dataclass(frozen=True)
class NegativeFlip:
    """A view, or kept scan, that the former version finds a reference in and the new one does not."""

    reference: str
    """``publishers/{publisher}/references/{reference}``."""
    view: str
    """How the view was taken, in words; ``kept scan`` for one."""
    answer: str
    """What the new version answers: another reference's name, or empty for none."""


@dataclass(frozen=True)
class RolloutPreview:
    """How the two versions of a rollout did on the same photos."""

    passed: bool
    """Whether the new version is good enough."""
    problems: tuple[str, ...]
    """What it fails in, in words."""
    former: VersionQuality
    new: VersionQuality
    negative_flips: tuple[NegativeFlip, ...]
    create_time: datetime
    """When they were compared."""
    kept_scans: KeptScanAgreement


def _last_segment(name: str) -> str:
    return name.rpartition("/")[2]
