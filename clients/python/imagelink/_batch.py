"""Many registrations over one stream: what goes in, and what comes out for each."""

import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Semaphore

import grpc

from imagelink import _calls as calls
from imagelink._calls import ImageSource
from imagelink._channel import MAX_MESSAGE_BYTES
from imagelink.errors import ImageLinkError, InvalidArgument
from imagelink.types import Written
from imagelink.v1 import gallery_pb2

WINDOW = 32
"""Registrations that are sent before their results are there: what the server holds, too."""


@dataclass(frozen=True)
class Registration:
    """A reference to register with others, with the arguments of ``Client.register``."""

    image: ImageSource
    link: str
    reference_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class RegistrationResult:
    """What became of a registration: what was written, or the error that it failed with."""

    registration: Registration
    outcome: Written | ImageLinkError | OSError

    @property
    def written(self) -> Written | None:
        """The reference as written; None where it failed."""
        return self.outcome if isinstance(self.outcome, Written) else None

    @property
    def error(self) -> ImageLinkError | OSError | None:
        """Why it failed: an ``OSError`` where its file could not be read. None where it did not."""
        return None if isinstance(self.outcome, Written) else self.outcome


class Batch:
    """Pairs what comes out of the stream with what went in."""

    def __init__(self, publisher: str | None) -> None:
        self._publisher = publisher
        self._sent: dict[int, Registration] = {}
        self._count = 0
        self._unsent: deque[RegistrationResult] = deque()

    def request(self, registration: Registration) -> gallery_pb2.BatchRegisterRequest | None:
        """The request for a registration; None where its image cannot be sent."""
        try:
            item = calls.register_request(
                calls.read_image(registration.image),
                registration.link,
                registration.reference_id,
                registration.metadata,
                registration.request_id,
                False,
                self._publisher,
            )
            request = gallery_pb2.BatchRegisterRequest(item=item)
            _check_size(request)
        except (OSError, InvalidArgument) as error:
            self._unsent.append(RegistrationResult(registration, error))
            return None
        self._sent[self._count] = registration
        self._count += 1
        return request

    def result(self, answer: gallery_pb2.BatchRegisterResponse) -> RegistrationResult:
        """What became of the registration that ``answer`` is about."""
        registration = self._sent.pop(answer.item_number)
        return RegistrationResult(registration, calls.BATCH_REGISTER.convert(answer))

    def unsent(self) -> Iterator[RegistrationResult]:
        """The registrations that could not be sent since the last call."""
        while self._unsent:
            yield self._unsent.popleft()


class Feed:
    """The requests of a batch for a thread of gRPC, which waits while too many are on their way."""

    def __init__(self, batch: Batch, registrations: Iterable[Registration]) -> None:
        self._batch = batch
        self._registrations = registrations
        self._room = Semaphore(WINDOW)
        self._closed = False

    def __iter__(self) -> Iterator[gallery_pb2.BatchRegisterRequest]:
        for registration in self._registrations:
            self._room.acquire()
            if self._closed:
                return
            request = self._batch.request(registration)
            if request is None:
                self._room.release()
            else:
                yield request

    def answered(self) -> None:
        """Makes room for another request."""
        self._room.release()

    def close(self) -> None:
        """Ends the requests, also for a thread that waits."""
        self._closed = True
        self._room.release()


def _check_size(request: gallery_pb2.BatchRegisterRequest) -> None:
    """Refuses what would break the whole stream. Raises InvalidArgument."""
    if request.ByteSize() > MAX_MESSAGE_BYTES:
        raise InvalidArgument(
            f"The image has {len(request.item.image)} bytes, which is too large to send: "
            "scale it down or compress it more.",
            code=grpc.StatusCode.INVALID_ARGUMENT,
        )
