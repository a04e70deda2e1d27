"""Load tests: who is asked how often, what counts as right, and what sets the exit code."""

import random
import stat
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from imagelink import (
    Evidence,
    FrameFailure,
    ImageLinkError,
    Match,
    NoMatchReason,
    Point,
    Quad,
    Reference,
    ScanResult,
    SessionEnd,
    SessionEndReason,
    Sighting,
)

from loadtests.checks import (
    CallFailed,
    IncompleteList,
    NotRefused,
    WrongAnswer,
    check_list,
    check_scan,
    check_session,
    failures_named,
    refused,
)
from loadtests.mixes import MIXES
from loadtests.popularity import ZipfChoice
from loadtests.shapes import SHAPES
from loadtests.thresholds import MET, NOT_MET, Measurements, Thresholds, exit_code, judge
from loadtests.workload import (
    INDEX,
    Photo,
    Publisher,
    Workload,
    WorkloadError,
    read_workload,
    write_workload,
)

POSTER = "publishers/acme/references/poster"
OTHER = "publishers/acme/references/other"
CORNER = Point(0, 0)
LIMITS = Thresholds(0.01, 0.95, 250, 800, 1500)
GOOD = Measurements(
    calls=1000, answers=900, failure_share=0.01, accuracy=0.95, p50=250, p95=800, p99=1500
)


def answer(*references: str) -> ScanResult:
    matches = tuple(
        Match(
            reference,
            "https://example.com/",
            {},
            0.99,
            Quad(CORNER, CORNER, CORNER, CORNER),
            Evidence(None, 0.5, 50, 0.9, 1.0, 55, 0.9),
        )
        for reference in references
    )
    return ScanResult(matches, None if matches else NoMatchReason.NOTHING_SIMILAR, "m", 1, "s", {})


def failing(reason: str) -> None:
    raise ImageLinkError("No.", code=grpc.StatusCode.INVALID_ARGUMENT, reason=reason)


# Zipf


def test_publisher_of_rank_r_is_asked_in_proportion_to_1_over_r() -> None:
    choice = ZipfChoice("abcd", 1.0, random.Random(1))
    drawn = Counter(choice.draw() for _ in range(25_000))
    for rank, publisher in enumerate("abcd", start=1):
        assert drawn[publisher] == pytest.approx(12_000 / rank, rel=0.05)


def test_larger_exponent_is_less_even_and_zero_is_even() -> None:
    even = Counter(_drawn("ab", 0.0))
    uneven = Counter(_drawn("ab", 3.0))
    assert even["a"] == pytest.approx(5000, rel=0.05)
    assert uneven["a"] == pytest.approx(10_000 * 8 / 9, rel=0.05)


def _drawn(items: str, exponent: float) -> list[str]:
    choice = ZipfChoice(items, exponent, random.Random(2))
    return [choice.draw() for _ in range(10_000)]


# Answers


def test_right_answers_pass() -> None:
    check_scan(answer(POSTER), POSTER)
    check_scan(answer(), "")


@pytest.mark.parametrize(
    ("found", "shows", "error"),
    [
        ((), POSTER, "missed what is registered"),
        ((OTHER,), POSTER, "took it for another"),
        ((POSTER, OTHER), POSTER, "found more than there is"),
        ((OTHER,), "", "recognised what is not registered"),
        (("publishers/other/references/poster",), POSTER, "took it for another"),
    ],
)
def test_wrong_answer_fails_under_a_name_of_its_own(
    found: tuple[str, ...], shows: str, error: str
) -> None:
    with pytest.raises(WrongAnswer, match=error):
        check_scan(answer(*found), shows)


def test_a_session_must_tell_what_its_camera_saw_once_and_nothing_else() -> None:
    end = SessionEnd(SessionEndReason.CLIENT_CLOSED, 8, 0)
    seen, other = (
        Sighting(answer(name).matches[0], 2, 0, 1, "v1", 1, "s") for name in (POSTER, OTHER)
    )
    check_session([seen, end], POSTER)
    for events in ([end], [seen, seen, end], [seen, other, end], [other, end]):
        with pytest.raises(WrongAnswer):
            check_session(events, POSTER)
    error = ImageLinkError("Too many.", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="BUSY")
    with pytest.raises(CallFailed, match="RESOURCE_EXHAUSTED BUSY"), failures_named():
        check_session([FrameFailure(error, 0, 0), seen, end], POSTER)


def test_list_may_have_more_than_is_registered_but_not_less() -> None:
    now = datetime.now(UTC)
    listed = [Reference(name, "", {}, True, (), now, now) for name in (POSTER, OTHER)]
    check_list(listed, {POSTER})
    with pytest.raises(IncompleteList):
        check_list(listed[1:], {POSTER})


def test_expected_refusal_is_a_success() -> None:
    with failures_named(), refused("IMAGE_INVALID"):
        failing("IMAGE_INVALID")


def test_refusal_for_another_reason_is_a_failure_named_by_status_and_reason() -> None:
    with (
        pytest.raises(CallFailed, match="INVALID_ARGUMENT IMAGE_TOO_LARGE"),
        failures_named(),
        refused("IMAGE_INVALID"),
    ):
        failing("IMAGE_TOO_LARGE")


def test_accepted_bad_request_is_a_failure() -> None:
    with pytest.raises(NotRefused, match="IMAGE_INVALID"), refused("IMAGE_INVALID"):
        check_scan(answer(), "")


# Thresholds


def test_exit_code_is_0_where_every_limit_is_just_met() -> None:
    assert exit_code(judge(GOOD, LIMITS)) == MET == 0


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("failures", replace(GOOD, failure_share=0.0101)),
        ("accuracy", replace(GOOD, accuracy=0.9499)),
        ("scan p50", replace(GOOD, p50=251)),
        ("scan p95", replace(GOOD, p95=801)),
        ("scan p99", replace(GOOD, p99=1501)),
    ],
)
def test_one_limit_not_met_sets_the_exit_code_and_is_named(
    name: str, measured: Measurements
) -> None:
    verdicts = judge(measured, LIMITS)
    assert [verdict.name for verdict in verdicts if not verdict.met] == [name]
    assert exit_code(verdicts) == NOT_MET != 0


def test_without_a_call_no_limit_is_met() -> None:
    verdicts = judge(Measurements(0, 0, None, None, None, None, None), LIMITS)
    assert not any(verdict.met for verdict in verdicts)
    assert exit_code(verdicts) == NOT_MET


# Shapes


def test_steady_has_all_users_until_the_time_is_over() -> None:
    steady = SHAPES["steady"]
    assert [steady.users(second, 8, 60) for second in (0, 59, 60)] == [8, 8, None]


def test_ramp_climbs_in_ten_steps_to_all_users() -> None:
    ramp = SHAPES["ramp"]
    assert [ramp.users(second, 20, 100) for second in range(5, 100, 10)] == list(range(2, 21, 2))


def test_spike_has_a_fifth_of_the_users_before_and_after() -> None:
    spike = SHAPES["spike"]
    assert [spike.users(second, 50, 90) for second in (0, 29, 30, 59, 60, 89)] == [
        10,
        10,
        50,
        50,
        10,
        10,
    ]


def test_every_shape_has_a_user_at_least() -> None:
    for shape in SHAPES.values():
        assert shape.users(0, 1, 60) == 1


def test_every_mix_scans_so_that_accuracy_is_measured() -> None:
    for mix in MIXES.values():
        assert {"scan_registered", "scan_stranger"} <= mix.keys()


# Workloads


def test_workload_is_read_as_it_was_written(tmp_path: Path) -> None:
    workload = _workload()
    write_workload(workload, tmp_path)
    assert read_workload(tmp_path) == workload


def test_keys_are_for_the_owner_only(tmp_path: Path) -> None:
    write_workload(_workload(), tmp_path)
    assert stat.S_IMODE((tmp_path / INDEX).stat().st_mode) == 0o600


def test_missing_or_damaged_workload_says_what_to_do(tmp_path: Path) -> None:
    for spoil in (lambda: None, lambda: (tmp_path / INDEX).write_text("{}")):
        spoil()
        with pytest.raises(WorkloadError, match="python -m loadtests prepare"):
            read_workload(tmp_path)


def _workload() -> Workload:
    photos = (Photo(b"first", POSTER), Photo(b"second", POSTER))
    acme = Publisher("acme", "scan key", "publish key", frozenset({POSTER}), photos)
    return Workload("localhost:9000", (acme,), (b"stranger",), (b"new", b"newer"))
