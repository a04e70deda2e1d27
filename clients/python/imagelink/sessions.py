"""What the client answers about camera sessions: plain, immutable values without protobuf."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from imagelink.errors import ImageLinkError
from imagelink.types import Match


@dataclass(frozen=True)
class Sighting:
    """A reference that came into view, once it is certain."""

    match: Match
    """As it stands in the frame; ``probability`` is by all frames together."""
    frame_number: int
    """Of the frame, the first being 0."""
    dropped_frames: int
    """How many were dropped so far, as newer ones came before their turn."""
    evidence_frames: int
    """How many frames the certainty rests on."""
    model_version: str
    gallery_version: int
    scan_id: str


@dataclass(frozen=True)
class FrameFailure:
    """A frame that could not be recognised; the session goes on."""

    error: ImageLinkError
    frame_number: int
    dropped_frames: int


class SessionEndReason(StrEnum):
    """Why a camera session ended."""

    CLIENT_CLOSED = "client_closed"
    """There were no more frames."""
    MAX_DURATION = "max_duration"
    """It has lasted as long as it may: begin another."""
    UNKNOWN = "unknown"
    """The server is newer than this client and has a reason which it does not know."""


@dataclass(frozen=True)
class SessionEnd:
    """The end of a camera session."""

    reason: SessionEndReason
    frames: int
    """How many the server got."""
    dropped_frames: int


SessionEvent: TypeAlias = Sighting | FrameFailure | SessionEnd
