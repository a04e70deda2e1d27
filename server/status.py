"""Domain errors as gRPC statuses: the one table of both, in the form of AIP-193."""

from collections.abc import Iterator
from typing import Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from imagelink.v1.error_reason_pb2 import ErrorReason

from indexing import errors

DOMAIN = "imagelink"
RETRY_SECONDS = 1
LONGEST_TEXT = 500
DETAILS_KEY = "grpc-status-details-bin"

_C = grpc.StatusCode
STATUSES: dict[type[errors.ImageLinkError], tuple[grpc.StatusCode, str]] = {
    errors.ApiKeyMissing: (_C.UNAUTHENTICATED, "API_KEY_MISSING"),
    errors.ApiKeyInvalid: (_C.UNAUTHENTICATED, "API_KEY_INVALID"),
    errors.ApiKeyExpired: (_C.UNAUTHENTICATED, "API_KEY_EXPIRED"),
    errors.RoleNotAllowed: (_C.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"),
    errors.PublisherNotAllowed: (_C.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"),
    errors.PublisherSuspended: (_C.PERMISSION_DENIED, "PUBLISHER_SUSPENDED"),
    errors.PublisherNotFound: (_C.NOT_FOUND, "PUBLISHER_NOT_FOUND"),
    errors.ApiKeyNotFound: (_C.NOT_FOUND, "API_KEY_NOT_FOUND"),
    errors.ReferenceNotFound: (_C.NOT_FOUND, "REFERENCE_NOT_FOUND"),
    errors.ImageNotFound: (_C.NOT_FOUND, "IMAGE_NOT_FOUND"),
    errors.ErasureReceiptNotFound: (_C.NOT_FOUND, "ERASURE_RECEIPT_NOT_FOUND"),
    errors.ShardNotFound: (_C.NOT_FOUND, "SHARD_NOT_FOUND"),
    errors.ShardNotActive: (_C.FAILED_PRECONDITION, "SHARD_NOT_ACTIVE"),
    errors.LastShard: (_C.FAILED_PRECONDITION, "LAST_SHARD"),
    errors.ShardHasPins: (_C.FAILED_PRECONDITION, "SHARD_HAS_PINS"),
    errors.PublisherAlreadyExists: (_C.ALREADY_EXISTS, "PUBLISHER_ALREADY_EXISTS"),
    errors.ReferenceAlreadyExists: (_C.ALREADY_EXISTS, "REFERENCE_ALREADY_EXISTS"),
    errors.TooManyImages: (_C.FAILED_PRECONDITION, "TOO_MANY_IMAGES"),
    errors.LastImage: (_C.FAILED_PRECONDITION, "LAST_IMAGE"),
    errors.FieldInvalid: (_C.INVALID_ARGUMENT, "FIELD_INVALID"),
    errors.RequestIdReused: (_C.INVALID_ARGUMENT, "REQUEST_ID_REUSED"),
    errors.PageTokenInvalid: (_C.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
    errors.ImageInvalid: (_C.INVALID_ARGUMENT, "IMAGE_INVALID"),
    errors.ImageTooLarge: (_C.INVALID_ARGUMENT, "IMAGE_TOO_LARGE"),
    errors.ImageTooManyPixels: (_C.INVALID_ARGUMENT, "IMAGE_TOO_MANY_PIXELS"),
    errors.ImageTooSmall: (_C.INVALID_ARGUMENT, "IMAGE_TOO_SMALL"),
    errors.ImageTooPlain: (_C.INVALID_ARGUMENT, "IMAGE_TOO_PLAIN"),
    errors.ArchiveInvalid: (_C.INVALID_ARGUMENT, "ARCHIVE_INVALID"),
    errors.ArchiveDamaged: (_C.INVALID_ARGUMENT, "ARCHIVE_DAMAGED"),
    errors.ImageFileDamaged: (_C.DATA_LOSS, "IMAGE_FILE_DAMAGED"),
    errors.GalleryVersionNotReached: (_C.DEADLINE_EXCEEDED, "GALLERY_VERSION_NOT_REACHED"),
    errors.DatabaseUnavailable: (_C.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
    errors.ShardUnavailable: (_C.UNAVAILABLE, "SHARD_UNAVAILABLE"),
    errors.BundleInvalid: (_C.INVALID_ARGUMENT, "BUNDLE_INVALID"),
    errors.ModelNotFound: (_C.NOT_FOUND, "MODEL_NOT_FOUND"),
    errors.ModelInUse: (_C.FAILED_PRECONDITION, "MODEL_IN_USE"),
    errors.ModelTooLarge: (_C.FAILED_PRECONDITION, "MODEL_TOO_LARGE"),
    errors.ModelUnavailable: (_C.UNAVAILABLE, "MODEL_UNAVAILABLE"),
    errors.RolloutNotFound: (_C.NOT_FOUND, "ROLLOUT_NOT_FOUND"),
    errors.RolloutUnderWay: (_C.FAILED_PRECONDITION, "ROLLOUT_UNDER_WAY"),
    errors.RolloutStateInvalid: (_C.FAILED_PRECONDITION, "ROLLOUT_STATE_INVALID"),
    errors.GateFailed: (_C.FAILED_PRECONDITION, "GATE_FAILED"),
    errors.Overloaded: (_C.RESOURCE_EXHAUSTED, "OVERLOADED"),
    errors.ScanQuotaExceeded: (_C.RESOURCE_EXHAUSTED, "SCAN_QUOTA_EXCEEDED"),
    errors.ReferenceQuotaExceeded: (_C.RESOURCE_EXHAUSTED, "REFERENCE_QUOTA_EXCEEDED"),
}
QUOTAS = (errors.ScanQuotaExceeded, errors.ReferenceQuotaExceeded)
INTERNAL = (_C.INTERNAL, "INTERNAL")


class StatusContext(Protocol):
    """The part of a gRPC servicer context that carries a status."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status code."""

    def set_details(self, details: str) -> None:
        """Sets the message."""

    def set_trailing_metadata(self, metadata: list[tuple[str, bytes]]) -> None:
        """Sets the trailers."""


def to_status(error: errors.ImageLinkError) -> status_pb2.Status:
    """The ``google.rpc.Status`` of a domain error, with ErrorInfo and what else helps."""
    message = _short(str(error))
    details = map(_packed, _details(error, message))
    number = code_pb2.Code.Value(code(error).name)
    return status_pb2.Status(code=number, message=message, details=details)


def _details(error: errors.ImageLinkError, message: str) -> Iterator[Message]:
    name = reason(error)
    ErrorReason.Value(f"ERROR_REASON_{name}")
    told = {key: _short(value) for key, value in error.details.items()}
    yield error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=told)
    field = error.details.get("field") or error.field
    if field and code(error) is _C.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if isinstance(error, QUOTAS):
        subject = f"publishers/{error.details['publisher']}"
        exceeded = error_details_pb2.QuotaFailure.Violation(subject=subject, description=message)
        yield error_details_pb2.QuotaFailure(violations=[exceeded])
    seconds = _retry_after(error)
    if seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(seconds * 1e9))
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def reason(error: errors.ImageLinkError) -> str:
    """The reason that a caller is told for a domain error."""
    return STATUSES.get(type(error), INTERNAL)[1]


def code(error: errors.ImageLinkError) -> grpc.StatusCode:
    """The gRPC status of a domain error."""
    return STATUSES.get(type(error), INTERNAL)[0]


def fail(context: StatusContext, error: errors.ImageLinkError) -> None:
    """Makes a domain error the outcome of a call."""
    status = to_status(error)
    context.set_code(code(error))
    context.set_details(status.message)
    context.set_trailing_metadata([(DETAILS_KEY, status.SerializeToString())])


def _retry_after(error: errors.ImageLinkError) -> float | None:
    """Seconds after which a call may succeed; None where waiting does not help."""
    match error:
        case errors.ReferenceQuotaExceeded():
            return None
        case errors.ScanQuotaExceeded():
            return float(error.details["retry_after"])
        case _:
            retried = code(error) in (_C.UNAVAILABLE, _C.RESOURCE_EXHAUSTED)
            return RETRY_SECONDS if retried else None


def _short(text: str) -> str:
    # A status travels in headers, of which proxies take 16 kB; longer ones break the call off.
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
