"""The call of a camera session: its requests and the conversion of its answers."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration

from imagelink import _conversions as convert
from imagelink._calls import ImageSource, Method, read_image
from imagelink.errors import from_status
from imagelink.sessions import FrameFailure, SessionEnd, SessionEndReason, SessionEvent, Sighting
from imagelink.v1 import recognition_pb2


def _end_reason(value: int) -> SessionEndReason:
    names = (name for name, number in recognition_pb2.SessionEndReason.items() if number == value)
    name = next(names, "").removeprefix("SESSION_END_REASON_")
    return SessionEndReason.__members__.get(name, SessionEndReason.UNKNOWN)


def _event(message: recognition_pb2.ScanStreamResponse) -> SessionEvent | None:
    number, dropped = message.frame_number, message.dropped_frame_count
    match message.WhichOneof("event"):
        case "sighting":
            seen = message.sighting
            return Sighting(
                convert.match(seen.match),
                number,
                dropped,
                seen.evidence_frame_count,
                seen.model_version,
                seen.gallery_version,
                seen.scan_id,
            )
        case "error":
            return FrameFailure(from_status(message.error), number, dropped)
        case "end":
            return SessionEnd(_end_reason(message.end.reason), number, dropped)
    return None  # The server is newer than this client, and tells what it does not know.


SCAN_STREAM = Method("Recognition", "ScanStream", recognition_pb2.ScanStreamResponse, _event)

METHODS: tuple[Method[Any, Any], ...] = (SCAN_STREAM,)


def session_config(
    min_gallery_version: int,
    max_duration: float | None,
    reappear_after: float | None,
    keep_late_frames: bool,
) -> recognition_pb2.ScanStreamRequest:
    """The first request of a session."""
    config = recognition_pb2.ScanStreamConfig(
        min_gallery_version=min_gallery_version,
        max_duration=_duration(max_duration),
        reappear_after=_duration(reappear_after),
        keep_late_frames=keep_late_frames,
    )
    return recognition_pb2.ScanStreamRequest(config=config)


class FrameFeed:
    """The requests of a session; ``problem`` is what ended the frames before their end.

    gRPC would tell of an error of its requests, but not which.
    """

    def __init__(self, config: recognition_pb2.ScanStreamRequest) -> None:
        self._config = config
        self._closed = False
        self.problem: Exception | None = None

    def requests(
        self, frames: Iterable[ImageSource]
    ) -> Iterator[recognition_pb2.ScanStreamRequest]:
        """The requests, for a thread of gRPC."""
        yield self._config
        try:
            for frame in frames:
                if self._closed:
                    return
                yield _request(frame)
        except Exception as error:
            self.problem = error

    async def async_requests(
        self, frames: Iterable[ImageSource] | AsyncIterable[ImageSource]
    ) -> AsyncIterator[recognition_pb2.ScanStreamRequest]:
        """The requests, for an event loop."""
        yield self._config
        try:
            if isinstance(frames, AsyncIterable):
                async for frame in frames:
                    yield _request(frame)
            else:
                for frame in frames:
                    yield _request(frame)
        except Exception as error:
            self.problem = error

    def close(self) -> None:
        """Ends the requests at the next frame."""
        self._closed = True


def _request(frame: ImageSource) -> recognition_pb2.ScanStreamRequest:
    return recognition_pb2.ScanStreamRequest(image=read_image(frame))


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
