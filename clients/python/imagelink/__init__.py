"""Client of ImageLink: recognises printed pictures in photos."""

from imagelink._async_client import AsyncClient
from imagelink._calls import ImageSource
from imagelink._client import Client
from imagelink.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FieldViolation,
    ImageLinkError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from imagelink.types import (
    ApiKey,
    Evidence,
    Match,
    NoMatchReason,
    Point,
    Publisher,
    Quad,
    Reference,
    ReferenceImage,
    Role,
    ScanResult,
    Written,
)

__all__ = [
    "AlreadyExists",
    "ApiKey",
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Evidence",
    "FieldViolation",
    "ImageLinkError",
    "ImageSource",
    "InvalidArgument",
    "Match",
    "NoMatchReason",
    "NotFound",
    "PermissionDenied",
    "Point",
    "Publisher",
    "Quad",
    "Reference",
    "ReferenceImage",
    "ResourceExhausted",
    "Role",
    "ScanResult",
    "Unauthenticated",
    "Unavailable",
    "Written",
]
