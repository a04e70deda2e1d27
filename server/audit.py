"""The audit log: a line of JSON for each write, that says who did what to which resource.

Lines and not rows of the database: a write that is refused, or that finds the database away, has
one too; no write waits for another row; and what keeps them can be out of reach of whoever may
write to the database. They have names of resources and ids of keys, never an image or a key.
"""

import functools
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog
from google.protobuf.message import Message

from indexing.errors import ImageLinkError
from server.auth import Caller
from server.status import reason

Request = TypeVar("Request")
Answer = TypeVar("Answer", bound=Message)

# Names that are none may be anything, also a key that was pasted into the wrong field.
NAME = re.compile(r"[A-Za-z]+/[a-z0-9-]{1,63}(/[A-Za-z]+/[a-z0-9-]{1,63})?(/placement)?")
ID = re.compile(r"[a-z0-9-]{1,63}")
FIELD = re.compile(r"[a-z_]{1,40}")
COLLECTIONS = {"publisher_id": "publishers", "reference_id": "references"}

log = structlog.wrap_logger(
    None,
    processors=[
        structlog.processors.TimeStamper(fmt="iso", key="time"),
        structlog.processors.JSONRenderer(),
    ],
)


@dataclass(slots=True)
class Write:
    """A write that is under way; ``request`` and ``answer`` are None as long as there are none."""

    request: Message | None = None
    answer: Message | None = None


@contextmanager
def writing(method: str, caller: Caller) -> Iterator[Write]:
    """Logs how a write ended, when it has; the block fills in what it knows of it.

    The outcome is OK, the reason of the error, or CANCELLED for a call that broke off: such a write
    may be done or not.
    """
    write, outcome, start = Write(), "CANCELLED", time.monotonic()
    try:
        yield write
        outcome = "OK"
    except Exception as error:
        outcome = reason(error) if isinstance(error, ImageLinkError) else "INTERNAL"
        raise
    finally:
        log.info(
            "audit",
            method=method,
            key=caller.key_id,
            role=caller.role.value,
            publisher=caller.publisher.id if caller.publisher else None,
            outcome=outcome,
            seconds=round(time.monotonic() - start, 3),
            **_subject(write, caller),
        )


def audited(
    method: Callable[[Any, Request, Caller], Awaitable[Answer]],
) -> Callable[[Any, Request, Caller], Awaitable[Answer]]:
    """Makes a method that writes leave a line in the audit log. It goes under ``rpc``."""

    @functools.wraps(method)
    async def call(self: object, request: Request, caller: Caller) -> Answer:
        with writing(method.__name__, caller) as write:
            if isinstance(request, Message):
                write.request = request
            else:
                stream = cast(AsyncIterator[Message], request)
                request = cast(Request, _remembering_the_first(stream, write))
            write.answer = answer = await method(self, request, caller)
            return answer

    return call


async def _remembering_the_first(
    requests: AsyncIterator[Message], write: Write
) -> AsyncGenerator[Message, None]:
    async for request in requests:
        write.request = write.request or request
        yield request


def _subject(write: Write, caller: Caller) -> dict[str, object]:
    """What was written: its resource name, and what else the messages tell."""
    told: dict[str, object] = {"resource": _resource(write, caller) or None}
    for message in filter(None, (write.request, write.answer)):
        for field, value in message.ListFields():
            if field.name == "gallery_version" or (
                field.name == "image_id" and ID.fullmatch(value)
            ):
                told[field.name] = value
            elif field.name == "update_mask":
                told["fields"] = [path for path in value.paths if FIELD.fullmatch(path)]
    return told


def _resource(write: Write, caller: Caller) -> str:
    """The first resource name in the answer and the request, else what the request asks to make."""
    for message in filter(None, (write.answer, write.request)):
        carried = [value for _, value in message.ListFields() if isinstance(value, Message)]
        for each in (message, *carried):
            name = getattr(each, "name", "")
            if NAME.fullmatch(name):
                return str(name)
    own = f"publishers/{caller.publisher.id}" if caller.publisher else ""
    parent = getattr(write.request, "parent", "") or own
    parts = [parent] if NAME.fullmatch(parent) else []
    for field, collection in COLLECTIONS.items():
        made = getattr(write.request, field, "")
        if ID.fullmatch(made):
            parts.append(f"{collection}/{made}")
    return "/".join(parts)
