"""The rules that hold the house together and that no other tool checks."""

from indexing import errors
from server.rpc import Fault
from server.status import INTERNAL, STATUSES, to_status

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
