import pytest
from imagelink.v1 import recognition_pb2

from benchmarks.echo import echo_server
from benchmarks.errors import BenchmarkError
from benchmarks.load import OK, REFUSED, Call, Caller, Shot, run_load
from benchmarks.pace import pace


def call(seconds: float = 0.1, status: str = OK, right: bool = True, begun: float = 0.0) -> Call:
    return Call("one", begun, seconds, status, right)


def test_a_pace_counts_answers_until_the_last_of_them() -> None:
    calls = [call(), call(begun=1.0, seconds=1.0), call(status=REFUSED, right=False, begun=9.0)]
    found = pace([*calls, call(right=False)])
    assert found.per_second == pytest.approx(1.5)
    assert (found.p50_ms, found.p99_ms) == pytest.approx((100.0, 1000.0))
    assert (found.refused, found.failed) == (0.25, 0.0)
    assert found.wrong == pytest.approx(1 / 3)


def test_what_is_neither_answered_nor_refused_failed() -> None:
    assert pace([call(), call(status="UNAVAILABLE")]).failed == 0.5


def test_a_pace_of_no_answer_says_what_came_instead() -> None:
    with pytest.raises(BenchmarkError, match="UNAVAILABLE"):
        pace([call(status="UNAVAILABLE")])


def test_load_is_at_the_pace_that_was_asked_for_and_answers_are_checked() -> None:
    match = recognition_pb2.Match(reference="publishers/p/references/poster")
    answer = recognition_pb2.ScanResponse(matches=[match]).SerializeToString()
    right, wrong = (Shot(b"photo", frozenset({name})) for name in ("poster", "other"))
    callers = [
        Caller("steady", "key", [right], rate=100.0),
        Caller("eager", "key", [right, wrong], in_flight=2),
    ]
    with echo_server(answer) as target:
        calls = run_load(target, callers, 1.0)
    steady = [call for call in calls if call.caller == "steady"]
    eager = [call for call in calls if call.caller == "eager"]
    assert 60 < len(steady) < 140
    assert all(call.right and call.status == OK for call in steady)
    assert len(eager) > 10
    assert sum(call.right for call in eager) == pytest.approx(len(eager) / 2, abs=2)
