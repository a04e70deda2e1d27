"""Whether what the server answers is right, and not only that it answers.

The messages of these errors are few and fixed, as locust counts failures by them.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager

from imagelink import FrameFailure, ImageLinkError, Reference, ScanResult, SessionEvent, Sighting


class UnexpectedResponse(Exception):
    """A call did not do what it must."""


class CallFailed(UnexpectedResponse):
    """The server refused a good request, or did not answer."""


class NotRefused(UnexpectedResponse):
    """The server accepted a bad request."""


class IncompleteList(UnexpectedResponse):
    """A list lacks references that are registered."""


class WrongAnswer(UnexpectedResponse):
    """A scan was answered, but not with what the photo shows."""


def check_scan(result: ScanResult, shows: str) -> None:
    """Compares an answer with the reference that the photo shows, or with none if that is empty.

    Raises WrongAnswer.
    """
    _check_found([match.reference for match in result.matches], shows)


def check_session(events: Iterable[SessionEvent], shows: str) -> None:
    """Compares what a session told with the reference that its camera saw.

    Raises WrongAnswer, and the error of a frame.
    """
    found = []
    for event in events:
        if isinstance(event, FrameFailure):
            raise event.error
        if isinstance(event, Sighting):
            found.append(event.match.reference)
    _check_found(found, shows)


def _check_found(found: Sequence[str], shows: str) -> None:
    if list(found) == ([shows] if shows else []):
        return
    if not shows:
        raise WrongAnswer("recognised what is not registered")
    if not found:
        raise WrongAnswer("missed what is registered")
    raise WrongAnswer("found more than there is" if shows in found else "took it for another")


def check_list(listed: Iterable[Reference], registered: Set[str]) -> None:
    """Compares a list with the resource names that it must have. Raises IncompleteList."""
    if not registered <= {reference.name for reference in listed}:
        raise IncompleteList("lacks what is registered")


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """Lets a call be refused for this reason, and for no other. Raises NotRefused."""
    try:
        yield
    except ImageLinkError as error:
        if error.reason != reason:
            raise
    else:
        raise NotRefused(f"should have been {reason}")


@contextmanager
def failures_named() -> Iterator[None]:
    """Raises CallFailed, which names status and reason, for an error of the client."""
    try:
        yield
    except ImageLinkError as error:
        raise CallFailed(f"{error.code.name} {error.reason}".rstrip()) from error
