"""The client's errors, and their making from gRPC's."""

from dataclasses import dataclass
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

_Detail = TypeVar("_Detail", bound=Message)


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request which the server refused, and why."""

    field: str
    description: str


class ImageLinkError(Exception):
    """A call failed: its message is one sentence for people.

    Attributes:
        message: What went wrong.
        code: The gRPC status code.
        reason: Why, as a name of the API's ``ErrorReason`` such as ``REFERENCE_NOT_FOUND``;
            empty where the failure did not come from the server.
        field_violations: The refused fields of the request.
        retry_after: Seconds after which the server asks to try again, if it does.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.field_violations = field_violations
        self.retry_after = retry_after


class Unauthenticated(ImageLinkError):
    """The API key is missing, malformed, unknown, revoked or expired."""


class PermissionDenied(ImageLinkError):
    """The API key does not allow this call."""


class NotFound(ImageLinkError):
    """What the call names does not exist."""


class AlreadyExists(ImageLinkError):
    """What the call creates exists already."""


class InvalidArgument(ImageLinkError):
    """The request is malformed, or its image unusable."""


class FailedPrecondition(ImageLinkError):
    """The state of things does not allow this call: change that first."""


class DeadlineExceeded(ImageLinkError):
    """There was no answer within the timeout."""


class ResourceExhausted(ImageLinkError):
    """The server is overloaded or a quota is used up: see ``retry_after``."""


class Unavailable(ImageLinkError):
    """The server cannot be reached, or cannot answer now."""


_CLASSES: dict[grpc.StatusCode, type[ImageLinkError]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}
_LOST_STATUS = "Internal error from Core"
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError) -> ImageLinkError:
    """Translates an error of a sync or async gRPC call, with its ``google.rpc.Status`` details."""
    if lost_its_status(error):
        message = "The stream broke: send again what was not answered."
        return Unavailable(message, code=grpc.StatusCode.UNAVAILABLE)
    return _error(error.code(), error.details() or "", _rich_status(error))


def lost_its_status(error: grpc.RpcError) -> bool:
    """Whether an async stream ended while it was written to, so that gRPC lost why it did.

    See https://github.com/grpc/grpc/issues/36066. Its translation is Unavailable then.
    """
    return bool(error.details() == _LOST_STATUS)


def from_status(status: status_pb2.Status) -> ImageLinkError:
    """Translates an error that came in an answer."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message, status)


def _error(code: grpc.StatusCode, message: str, status: status_pb2.Status) -> ImageLinkError:
    return _CLASSES.get(code, ImageLinkError)(
        message or f"The call failed with status {code.name}.",
        code=code,
        reason=_detail(status, error_details_pb2.ErrorInfo()).reason,
        field_violations=_violations(_detail(status, error_details_pb2.BadRequest())),
        retry_after=_retry_after(_detail(status, error_details_pb2.RetryInfo())),
    )


def _rich_status(error: grpc.RpcError) -> status_pb2.Status:
    """The details sent by the server; empty where it sent none, or none that can be read."""
    try:
        # An async error is no grpc.Call, but has the same three methods.
        status = rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, DecodeError):
        status = None
    return status or status_pb2.Status()


def _detail(status: status_pb2.Status, detail: _Detail) -> _Detail:
    """Fills the empty ``detail`` from the first of its type, if there is one."""
    for packed in status.details:
        if packed.Unpack(detail):
            break
    return detail


def _violations(bad_request: error_details_pb2.BadRequest) -> tuple[FieldViolation, ...]:
    return tuple(
        FieldViolation(violation.field, violation.description)
        for violation in bad_request.field_violations
    )


def _retry_after(info: error_details_pb2.RetryInfo) -> float | None:
    return info.retry_delay.ToNanoseconds() / 1e9 if info.HasField("retry_delay") else None
