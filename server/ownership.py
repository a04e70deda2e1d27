"""What a caller may name: its own publisher, and that one's references."""

from indexing.errors import PublisherNotAllowed
from indexing.reference import Publisher
from server import conversions as convert
from server.auth import Caller


def publisher_of(caller: Caller) -> Publisher:
    """The publisher of a caller who is not the operator."""
    assert caller.publisher is not None, "only the operator has no publisher"
    return caller.publisher


def own_publisher(caller: Caller, parent: str) -> str:
    """The id of the caller's publisher, which ``parent`` names unless it is empty.

    Raises FieldInvalid and PublisherNotAllowed.
    """
    own = publisher_of(caller).id
    if parent:
        (named,) = convert.parsed_name("parent", parent, "publishers")
        if named != own:
            raise PublisherNotAllowed(publisher=named)
    return own


def own_reference(caller: Caller, field: str, name: str) -> tuple[str, str]:
    """The ids of the caller's publisher and of its reference that ``name`` names.

    Raises FieldInvalid and PublisherNotAllowed.
    """
    publisher, reference = convert.parsed_name(field, name, "publishers", "references")
    if publisher != publisher_of(caller).id:
        raise PublisherNotAllowed(publisher=publisher)
    return publisher, reference
