"""The users of a load test: backend services of publishers, which call through the SDK.

Only locust imports this module: that of ``locust`` makes gevent take over sockets and threads, and
gRPC must follow before its first channel.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from typing import Any, ClassVar

from grpc.experimental import gevent as grpc_gevent  # type: ignore[attr-defined]
from imagelink import Client, Written
from locust import TaskSet, User

from loadtests.checks import (
    UnexpectedResponse,
    check_list,
    check_scan,
    check_session,
    failures_named,
    refused,
)
from loadtests.mixes import EVERYDAY, MIXES
from loadtests.popularity import ZipfChoice
from loadtests.results import CALL_TYPE, SCAN_REGISTERED, SCAN_STRANGER, SCAN_STREAM
from loadtests.workload import Workload

TOO_LARGE = b"\xff\xd8" + bytes(8 * 1024 * 1024)
"""Two bytes more than the API takes."""
NOT_AN_IMAGE = b"GET / HTTP/1.1\r\n\r\n"
PAGE = 1000
FRAMES_BEFORE, FRAMES_OF_IT, FRAME_SECONDS = 2, 6, 0.2
SESSION_SECONDS = (FRAMES_BEFORE + FRAMES_OF_IT) * FRAME_SECONDS

grpc_gevent.init_gevent()


class BackendService(User):
    """Scans photos for publishers, and manages their references; its tasks are set by the mix."""

    workload: ClassVar[Workload]
    """Of the process, and not of ``parsed_options``: those of a worker become its master's."""

    def on_start(self) -> None:
        """Waits, so that users do not begin all at once."""
        options = self.environment.parsed_options
        assert options is not None
        self._target = self.environment.host or self.workload.target
        self._timeout = options.call_timeout
        self._rng = random.Random()
        self._publishers = ZipfChoice(self.workload.publishers, options.zipf, self._rng)
        self.wait()

    def scan_registered(self) -> None:
        """A photo of a registered thing, which must be recognised."""
        publisher = self._publishers.draw()
        photo = self._rng.choice(publisher.photos)
        with self._measured(SCAN_REGISTERED):
            check_scan(self._client(publisher.scan_key).scan(photo.file), photo.shows)

    def scan_stranger(self) -> None:
        """A photo of something else, which must not be recognised."""
        client = self._client(self._publishers.draw().scan_key)
        photo = self._rng.choice(self.workload.strangers)
        with self._measured(SCAN_STRANGER):
            check_scan(client.scan(photo), "")

    def scan_stream(self) -> None:
        """A camera that moves onto a registered thing, which must be told once."""
        publisher = self._publishers.draw()
        stranger = self._rng.choice(self.workload.strangers)
        photo = self._rng.choice(publisher.photos)
        frames = _paced([stranger] * FRAMES_BEFORE + [photo.file] * FRAMES_OF_IT)
        client, timeout = self._client(publisher.scan_key), self._timeout + SESSION_SECONDS
        with (
            self._measured(SCAN_STREAM),
            closing(client.scan_stream(frames, timeout=timeout)) as session,
        ):
            check_session(session, photo.shows)

    def register(self) -> None:
        """A new reference, deleted afterwards so that galleries stay as they are."""
        client = self._client(self._publishers.draw().publish_key)
        name = f"load-{uuid.uuid4().hex}"
        picture = self._rng.choice(self.workload.new_pictures)
        written: Written | None = None
        with self._measured("Register"):
            written = client.register(picture, link="https://example.com/", reference_id=name)
        if written:
            with self._measured("DeleteReference"):
                client.delete_reference(written.reference.name)

    def list_references(self) -> None:
        """All references of a publisher, which must have those that stay registered."""
        publisher = self._publishers.draw()
        client = self._client(publisher.publish_key)
        with self._measured("ListReferences"):
            check_list(client.list_references(page_size=PAGE), publisher.references)

    def scan_with_wrong_key(self) -> None:
        """A scan that must be refused for its key."""
        publisher = self._publishers.draw()
        client = self._client(publisher.scan_key + "x")
        with self._measured("Scan, wrong key"), refused("API_KEY_INVALID"):
            client.scan(self._rng.choice(publisher.photos).file)

    def scan_no_image(self) -> None:
        """A scan that must be refused for bytes that are no image."""
        with self._measured("Scan, not an image"), refused("IMAGE_INVALID"):
            self._client(self._publishers.draw().scan_key).scan(NOT_AN_IMAGE)

    def scan_too_large(self) -> None:
        """A scan that must be refused for its size."""
        with self._measured("Scan, too large"), refused("IMAGE_TOO_LARGE"):
            self._client(self._publishers.draw().scan_key).scan(TOO_LARGE)

    def _client(self, key: str) -> Client:
        return _shared_client(self._target, key, self._timeout)

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        """Reports a call with its time, and with what was wrong if anything was.

        Not locust's own ``events.request.measure``: it reports calls that a stop cuts off, too.
        """
        start = time.perf_counter()
        failure: UnexpectedResponse | None = None
        try:
            with failures_named():
                yield
        except UnexpectedResponse as error:
            failure = error
        self.environment.events.request.fire(
            request_type=CALL_TYPE,
            name=name,
            response_time=1000 * (time.perf_counter() - start),
            response_length=0,
            exception=failure,
            context={},
        )


def tasks(mix: str) -> list[TaskSet | Callable[..., Any]]:
    """The tasks of a mix, each as often as its weight says."""
    return [
        getattr(BackendService, name) for name, weight in MIXES[mix].items() for _ in range(weight)
    ]


# Until a test starts and says which mix it is: a user without tasks makes locust warn.
BackendService.tasks = tasks(EVERYDAY)


def _paced(frames: Sequence[bytes]) -> Iterator[bytes]:
    """The frames, as a camera takes them."""
    for frame in frames:
        yield frame
        time.sleep(FRAME_SECONDS)


@cache
def _shared_client(target: str, key: str, timeout: float) -> Client:
    """The client of a key, which all users of this process share as a backend service's do."""
    return Client(target, key=key, timeout=timeout)
