"""The rules that hold the house together and that no other tool checks."""

from typing import TypeVar

from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from indexing import errors
from server.rpc import Fault
from server.status import INTERNAL, STATUSES, to_status

Detail = TypeVar("Detail", bound=Message)

# No caller sees them: they end a process or a job before, or the server deals with them.
NEVER_ANSWERED = {
    errors.BackupDamaged,
    errors.BackupInvalid,
    errors.BackupNewer,
    errors.DataDirInUse,
    errors.DatabaseMissing,
    errors.DatabaseNewer,
    errors.DatabaseOutdated,
    errors.DatabaseToolFailed,
    errors.DatabaseUrlInvalid,
    errors.FeaturesMissing,
    errors.ModelVersionMismatch,
    errors.StoreFailed,
    errors.TargetNotEmpty,
    # The server makes the features anew.
    errors.FeaturesOutdated,
}


def test_every_error_that_can_reach_a_caller_has_a_status() -> None:
    ours = {
        error
        for error in _descendants(errors.ImageLinkError)
        if error.__module__.split(".")[0] in {"indexing", "server"}
    }
    assert ours - NEVER_ANSWERED - {Fault} == set(STATUSES)


def test_a_fault_of_the_server_is_internal() -> None:
    assert Fault not in STATUSES
    assert INTERNAL[0].name == "INTERNAL"


def test_every_error_tells_the_user_something() -> None:
    for error in STATUSES:
        message = (error.__doc__ or "").strip()
        assert message, error.__name__
        assert "\n" not in message, f"{error.__name__}: a message is one line"


def _descendants(
    error: type[errors.ImageLinkError],
) -> set[type[errors.ImageLinkError]]:
    children = error.__subclasses__()
    return set(children).union(*(_descendants(child) for child in children))


def test_a_status_is_short_enough_for_the_headers_that_it_travels_in() -> None:
    status = to_status(errors.FieldInvalid(field="chunk", problem="A weight is missing. " * 5000))
    assert status.message.startswith("Field 'chunk' is invalid: A weight is missing.")
    assert status.ByteSize() < 4096


def test_a_quota_of_scans_says_whose_it_is_and_when_to_come_back() -> None:
    status = to_status(errors.ScanQuotaExceeded(publisher="acme", limit="2.5", retry_after=0.35))
    (violation,) = _detail(status, error_details_pb2.QuotaFailure()).violations
    assert violation.subject == "publishers/acme"
    assert violation.description == status.message
    assert _detail(status, error_details_pb2.RetryInfo()).retry_delay.ToMilliseconds() == 350
    assert _detail(status, error_details_pb2.ErrorInfo()).reason == "SCAN_QUOTA_EXCEEDED"


def test_a_quota_of_references_does_not_say_to_come_back() -> None:
    status = to_status(errors.ReferenceQuotaExceeded(publisher="acme", limit=5))
    (violation,) = _detail(status, error_details_pb2.QuotaFailure()).violations
    assert violation.subject == "publishers/acme"
    assert "delete some" in violation.description
    assert not any(each.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for each in status.details)


def test_an_overloaded_server_names_no_quota() -> None:
    status = to_status(errors.Overloaded())
    assert _detail(status, error_details_pb2.RetryInfo()).retry_delay.seconds == 1
    assert not any(each.Is(error_details_pb2.QuotaFailure.DESCRIPTOR) for each in status.details)


def _detail(status: status_pb2.Status, detail: Detail) -> Detail:
    assert any(packed.Unpack(detail) for packed in status.details)
    return detail
