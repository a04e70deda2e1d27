"""What every method has around it: authentication, statuses, a log of faults."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, get_type_hints

import structlog
from google.protobuf.message import Message

from indexing.errors import ImageLinkError
from indexing.reference import Role
from server import tracing
from server.auth import Authenticator, Caller
from server.status import StatusContext, fail

log = structlog.get_logger()

Request = TypeVar("Request")
Answer = TypeVar("Answer", bound=Message)


class GrpcContext(StatusContext, Protocol):
    """What a method needs of its gRPC context."""

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        """The metadata that the client sent."""


class Authenticated(Protocol):
    """An object whose methods know who calls."""

    authenticator: Authenticator


class Fault(ImageLinkError):
    """The server failed: try again, and give the operator the id {fault} if it happens again."""


def rpc(
    roles: frozenset[Role],
) -> Callable[
    [Callable[[Any, Request, Caller], Awaitable[Answer]]],
    Callable[[Any, Request, GrpcContext], Awaitable[Answer]],
]:
    """Makes a method of (request or requests, caller) a gRPC method for callers with a role.

    Domain errors become the call's status. Any other is logged under an id, which is all that
    the client is told.
    """

    def decorate(
        method: Callable[[Any, Request, Caller], Awaitable[Answer]],
    ) -> Callable[[Any, Request, GrpcContext], Awaitable[Answer]]:
        answer_type: type[Answer] = get_type_hints(method)["return"]

        async def call(self: Authenticated, request: Request, grpc_context: GrpcContext) -> Answer:
            try:
                metadata = grpc_context.invocation_metadata()
                with tracing.call(method.__name__, metadata):
                    caller = await self.authenticator.authenticate(metadata, roles)
                    return await method(self, request, caller)
            except ImageLinkError as error:
                fail(grpc_context, error)
            except Exception as error:
                fail(grpc_context, logged_fault(method.__name__, error))
            return answer_type()

        take_name(call, method)
        return call

    return decorate


def take_name(call: Callable[..., Any], method: Callable[..., Any]) -> None:
    """Names a function as the method that it stands for; its signature stays its own."""
    call.__name__, call.__qualname__, call.__doc__ = (
        method.__name__,
        method.__qualname__,
        method.__doc__,
    )


def logged_fault(method: str, error: Exception) -> Fault:
    """Logs an error of the server under an id, which is all that the client is told."""
    fault = uuid.uuid4().hex
    log.error("fault", method=method, fault=fault, exc_info=error)
    return Fault(fault=fault)
