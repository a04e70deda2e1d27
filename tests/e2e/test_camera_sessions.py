"""A camera's frames as a stream, through the real server."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from imagelink import (
    AsyncClient,
    FrameFailure,
    SessionEnd,
    SessionEndReason,
    Sighting,
)
from imagelink.v1 import recognition_pb2, recognition_pb2_grpc

from tests.e2e.harness import RunningServer, Tenant, bearer, refused
from tests.e2e.pictures import artworks, encoded, panning, strangers

FRAMES = 6
NOT_AN_IMAGE = b"GET / HTTP/1.1\r\n\r\n"
# More than the server takes at a time.
MANY_SESSIONS = 40

Request = recognition_pb2.ScanStreamRequest
Config = recognition_pb2.ScanStreamConfig


@pytest.fixture(scope="module")
def gallery(server: RunningServer) -> Tenant:
    """A publisher of two posters."""
    tenant = server.tenant()
    for number in range(2):
        tenant.client.register(
            encoded(artworks()[number]),
            link=f"https://example.com/{number}",
            reference_id=f"poster-{number}",
            metadata={"number": str(number)},
        )
    return tenant


@pytest.fixture(scope="module")
def pan() -> list[bytes]:
    """A camera that moves onto the first poster."""
    return panning(artworks()[0], FRAMES)


def watch(
    tenant: Tenant, frames: Iterable[bytes]
) -> tuple[list[Sighting | FrameFailure], SessionEnd]:
    """What a session tells of a recording, and its end."""
    stream = tenant.client.scan_stream(frames, keep_late_frames=True, min_gallery_version=2)
    *found, end = stream
    assert isinstance(end, SessionEnd)
    assert not any(isinstance(event, SessionEnd) for event in found)
    return found, end  # type: ignore[return-value]


def names(events: Sequence[Sighting | FrameFailure]) -> list[str]:
    return [event.match.reference_id for event in events if isinstance(event, Sighting)]


def test_panning_onto_a_picture_gives_one_answer(gallery: Tenant, pan: list[bytes]) -> None:
    (sighting,), end = watch(gallery, [*pan, *[pan[-1]] * 4])
    assert isinstance(sighting, Sighting)
    assert sighting.match.reference == f"{gallery.name}/references/poster-0"
    assert sighting.match.link == "https://example.com/0"
    assert sighting.match.metadata == {"number": "0"}
    assert 0.5 < sighting.match.probability <= 1
    assert sighting.match.evidence.inliers > 4
    assert 0 < sighting.frame_number < FRAMES
    assert 1 <= sighting.evidence_frames <= 8
    assert (sighting.gallery_version, bool(sighting.model_version)) == (2, True)
    assert sighting.scan_id
    assert end == SessionEnd(SessionEndReason.CLIENT_CLOSED, FRAMES + 4, 0)


def test_strangers_give_no_answer(gallery: Tenant) -> None:
    frames = [frame for picture in strangers() for frame in panning(picture, 4)]
    assert watch(gallery, frames) == (
        [],
        SessionEnd(SessionEndReason.CLIENT_CLOSED, len(frames), 0),
    )


def test_bad_frames_are_answered_in_their_place(gallery: Tenant, pan: list[bytes]) -> None:
    frames = [NOT_AN_IMAGE, *pan, pan[-1][:200], pan[-1]]
    found, end = watch(gallery, frames)
    assert [type(event) for event in found] == [FrameFailure, Sighting, FrameFailure]
    failures = [event for event in found if isinstance(event, FrameFailure)]
    assert [event.frame_number for event in failures] == [0, 1 + FRAMES]
    assert {event.error.reason for event in failures} == {"IMAGE_INVALID"}
    assert names(found) == ["poster-0"]
    assert end.frames == len(frames)


def test_two_pictures_one_after_the_other_are_each_told(gallery: Tenant, pan: list[bytes]) -> None:
    found, _ = watch(gallery, [*pan, *panning(artworks()[1], FRAMES)])
    assert names(found) == ["poster-0", "poster-1"]


def test_what_left_for_a_while_is_told_again(gallery: Tenant, pan: list[bytes]) -> None:
    def coming_and_going() -> Iterator[bytes]:
        yield pan[-1]
        yield pan[0]
        yield pan[-1]
        yield pan[0]
        time.sleep(1.6)
        yield pan[-1]

    stream = gallery.client.scan_stream(
        coming_and_going(), keep_late_frames=True, reappear_after=0.8
    )
    told = [event.frame_number for event in stream if isinstance(event, Sighting)]
    assert told == [0, 4]


def test_late_frames_are_dropped(gallery: Tenant, pan: list[bytes]) -> None:
    frames = [pan[0]] * 60 + [pan[-1]]
    *_, sighting, end = gallery.client.scan_stream(frames)
    assert isinstance(sighting, Sighting)
    assert isinstance(end, SessionEnd)
    assert sighting.frame_number == 60
    assert end.frames == 61
    assert end.dropped_frames == sighting.dropped_frames > 20


def test_a_session_lasts_as_long_as_it_may(gallery: Tenant, pan: list[bytes]) -> None:
    def camera() -> Iterator[bytes]:
        while True:
            yield pan[-1]
            time.sleep(0.1)

    start = time.monotonic()
    sighting, end = gallery.client.scan_stream(camera(), max_duration=1.0)
    assert isinstance(sighting, Sighting)
    assert isinstance(end, SessionEnd)
    assert end.reason is SessionEndReason.MAX_DURATION
    assert 0.9 < time.monotonic() - start < 5


def test_sessions_that_are_given_up_make_room(gallery: Tenant, pan: list[bytes]) -> None:
    def camera() -> Iterator[bytes]:
        yield NOT_AN_IMAGE
        while True:
            yield pan[0]
            time.sleep(0.05)

    for _ in range(MANY_SESSIONS):
        stream = gallery.client.scan_stream(camera())
        assert isinstance(next(stream), FrameFailure)
        stream.close()
    assert names(watch(gallery, pan)[0]) == ["poster-0"]


def test_a_key_that_is_revoked_ends_the_session(
    server: RunningServer, gallery: Tenant, pan: list[bytes]
) -> None:
    operator = server.client(server.operator_key)
    key, text = operator.create_api_key(gallery.id)
    seen = threading.Event()

    def camera() -> Iterator[bytes]:
        yield pan[-1]
        seen.wait(30)
        operator.revoke_api_key(key.name)
        for _ in range(40):
            yield pan[-1]
            time.sleep(0.1)

    stream = server.client(text).scan_stream(camera(), timeout=30)
    assert isinstance(next(stream), Sighting)
    seen.set()
    with refused(grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID"):
        list(stream)


def test_keys_are_asked_for(server: RunningServer, gallery: Tenant, pan: list[bytes]) -> None:
    stream = server.client(gallery.scan_key).scan_stream(pan, keep_late_frames=True)
    assert isinstance(next(stream), Sighting)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID"):
        list(server.client(gallery.scan_key + "x").scan_stream(pan))
    with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        list(server.client(server.operator_key).scan_stream(pan))


async def test_the_async_client_watches_too(server: RunningServer, gallery: Tenant) -> None:
    async with AsyncClient(server.target, key=gallery.scan_key) as client:
        frames = panning(artworks()[1], 3)
        found = [event async for event in client.scan_stream(frames, keep_late_frames=True)]
    assert names(found[:-1]) == ["poster-1"]  # type: ignore[arg-type]
    assert found[-1] == SessionEnd(SessionEndReason.CLIENT_CLOSED, 3, 0)


def session_of(
    channel: grpc.Channel, tenant: Tenant, *requests: Request
) -> list[recognition_pb2.ScanStreamResponse]:
    stub = recognition_pb2_grpc.RecognitionStub(channel)
    return list(stub.ScanStream(iter(requests), metadata=bearer(tenant.scan_key), timeout=20))


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (Config(min_gallery_version=-1), "config.min_gallery_version"),
        (Config(max_duration=Duration(seconds=301)), "config.max_duration"),
        (Config(max_duration=Duration()), "config.max_duration"),
        (Config(reappear_after=Duration(seconds=-1)), "config.reappear_after"),
    ],
)
def test_malformed_settings_are_refused(
    channel: grpc.Channel, gallery: Tenant, config: Config, field: str
) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", field):
        session_of(channel, gallery, Request(config=config))


def test_settings_come_first(channel: grpc.Channel, gallery: Tenant, pan: list[bytes]) -> None:
    # A first message may have both, or neither.
    keep = Config(keep_late_frames=True)
    answers = session_of(channel, gallery, Request(config=keep, image=pan[-1]))
    assert [each.WhichOneof("event") for each in answers] == ["sighting", "end"]
    answers = session_of(channel, gallery, Request())
    assert [each.WhichOneof("event") for each in answers] == ["error", "end"]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", "config"):
        session_of(channel, gallery, Request(config=keep), Request(config=keep))


def test_a_version_that_does_not_exist_is_told_of_each_frame(
    gallery: Tenant, pan: list[bytes]
) -> None:
    failure, end = gallery.client.scan_stream(
        [pan[-1]], min_gallery_version=1_000_000, keep_late_frames=True
    )
    assert isinstance(failure, FrameFailure)
    assert failure.error.reason == "GALLERY_VERSION_NOT_REACHED"
    assert isinstance(end, SessionEnd)
