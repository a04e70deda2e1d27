"""The entities that the product is about: publishers, keys, references and their images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

DEFAULT_FALSE_ACCEPT_BUDGET = 0.001
DEFAULT_SCAN_WEIGHT = 1


class Role(StrEnum):
    """What an API key may do."""

    SCAN = "scan"
    PUBLISH = "publish"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Publisher:
    """A tenant.

    ``false_accept_budget`` is a share from 0 to 1, ``gallery_version`` counts writes, and
    ``scan_weight`` scans at a time are its turn where scans wait. ``max_scans_per_second``, of
    each scanner, and ``max_references`` are its quotas; 0 is no limit. It agreed to have photos of
    up to ``max_kept_scans`` of its scans kept.
    """

    id: str
    display_name: str
    suspended: bool
    false_accept_budget: float
    gallery_version: int
    create_time: datetime
    scan_weight: int = DEFAULT_SCAN_WEIGHT
    max_scans_per_second: float = 0.0
    max_references: int = 0
    max_kept_scans: int = 0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret; ``publisher`` is None for an operator's.

    It opens nothing from ``revoke_time`` or ``expire_time`` on.
    """

    id: str
    publisher: str | None
    role: Role
    display_name: str
    create_time: datetime
    revoke_time: datetime | None = None
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """One image of a reference; ``width`` and ``height`` in pixels, ``sha256`` of its file."""

    id: str
    width: int
    height: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Reference:
    """A printed thing of a publisher, what it links to and the images it is recognised by."""

    publisher: str
    id: str
    link: str
    metadata: Mapping[str, str]
    active: bool
    create_time: datetime
    update_time: datetime
    images: tuple[ReferenceImage, ...] = field(default=())
