"""The gRPC servicer of camera sessions: ``ScanStream`` of the service Recognition."""

# ruff: noqa: N802 (gRPC names the methods)

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from google.protobuf.duration_pb2 import Duration
from imagelink.v1 import recognition_pb2

from indexing.errors import FieldInvalid
from server import conversions as convert
from server.auth import SCAN, Caller
from server.ownership import publisher_of
from server.sessions import CameraSessions, Ended, Event, Failed, Seen, SessionPlan
from server.status import to_status
from server.streaming import Requests, stream_rpc

# As the API tells.
DEFAULT_DURATION, DEFAULT_REAPPEAR = 60.0, 2.0
LONGEST = 300.0


class SessionService:
    """The method of the service Recognition that is a stream."""

    def __init__(self, sessions: CameraSessions) -> None:
        self._sessions = sessions

    @stream_rpc(SCAN)
    async def ScanStream(
        self, requests: Requests[recognition_pb2.ScanStreamRequest], caller: Caller
    ) -> AsyncGenerator[recognition_pb2.ScanStreamResponse, None]:
        """Recognises what a camera sees."""
        first = await anext(requests, None)
        plan = _plan(first.config if first else recognition_pb2.ScanStreamConfig())
        images = _images(first, requests)
        events = self._sessions.run(lambda: publisher_of(requests.caller), plan, images)
        async with aclosing(events):
            async for event in events:
                yield _message(publisher_of(caller).id, event)


async def _images(
    first: recognition_pb2.ScanStreamRequest | None,
    rest: AsyncIterator[recognition_pb2.ScanStreamRequest],
) -> AsyncIterator[bytes]:
    if first is not None and (first.image or not first.HasField("config")):
        yield first.image
    async for request in rest:
        if request.HasField("config"):
            raise FieldInvalid(field="config", problem="only the first message may have it.")
        yield request.image


def _plan(config: recognition_pb2.ScanStreamConfig) -> SessionPlan:
    field = "config.min_gallery_version"
    return SessionPlan(
        convert.checked_gallery_version(field, config.min_gallery_version),
        _seconds("max_duration", config, DEFAULT_DURATION),
        _seconds("reappear_after", config, DEFAULT_REAPPEAR),
        config.keep_late_frames,
    )


def _seconds(name: str, config: recognition_pb2.ScanStreamConfig, default: float) -> float:
    """A span of time as given. Raises FieldInvalid."""
    if not config.HasField(name):  # type: ignore[arg-type]
        return default
    given: Duration = getattr(config, name)
    seconds = given.seconds + given.nanos / 1e9
    if not 0 < seconds <= LONGEST:
        problem = f"give more than 0 and at most {LONGEST:g} seconds."
        raise FieldInvalid(field=f"config.{name}", problem=problem)
    return seconds


def _message(publisher: str, event: Event) -> recognition_pb2.ScanStreamResponse:
    match event:
        case Seen(number, dropped):
            message = _response(number, dropped)
            message.sighting.CopyFrom(_sighting_message(publisher, event))
        case Failed(number, dropped, error):
            message = _response(number, dropped)
            message.error.CopyFrom(to_status(error))
        case Ended(frames, dropped, in_time):
            message = _response(frames, dropped)
            name = "CLIENT_CLOSED" if in_time else "MAX_DURATION"
            reason = recognition_pb2.SessionEndReason.Value(f"SESSION_END_REASON_{name}")
            message.end.reason = reason
    return message


def _response(number: int, dropped: int) -> recognition_pb2.ScanStreamResponse:
    return recognition_pb2.ScanStreamResponse(frame_number=number, dropped_frame_count=dropped)


def _sighting_message(publisher: str, seen: Seen) -> recognition_pb2.Sighting:
    found = seen.scan.recognition
    return recognition_pb2.Sighting(
        match=convert.match_message(publisher, seen.sighting.match, seen.scan.size),
        evidence_frame_count=seen.sighting.frames,
        model_version=found.model_version,
        gallery_version=found.gallery_version,
        scan_id=seen.scan.id,
    )
