"""What a rollout's watch and canary decide, and what a version must not lose at the gate."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from indexing.errors import RolloutStateInvalid
from indexing.gate import Answer, KeptScanAgreement, NegativeFlip, Rescan, Trial, compare
from indexing.rollout import (
    SWITCHABLE,
    BackfillProgress,
    Rollout,
    RolloutState,
    ScanRates,
    Serving,
    canary,
    decline,
)

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ROLLOUT = Rollout(
    "1", "new", "old", RolloutState.BACKFILLING, NOW, NOW, False, 0.0, 0.0, None, False, "", None
)
FOUND = Answer("one", 0.99, True, 0.01)
MISSED = Answer(None, 0.0, False, 0.01)
WRONG = Answer("two", 0.99, False, 0.01)
SILENT = Answer(None, 0.0, False, 0.01)


def test_a_greater_canary_contains_each_smaller_one() -> None:
    publishers = [f"publisher-{number}" for number in range(1000)]
    shares = [set(canary(publishers, percent)) for percent in (0, 5, 20, 100)]
    assert all(less <= more for less, more in itertools.pairwise(shares))
    assert shares[0] == set()
    assert 20 < len(shares[1]) < 90
    assert shares[3] == set(publishers)


def test_images_need_features_of_both_versions_while_a_rollout_is_under_way() -> None:
    assert Serving(0, "old", {}, None).written == ("old",)
    assert Serving(0, "old", {}, ROLLOUT).written == ("old", "new")
    active = replace(ROLLOUT, state=RolloutState.ACTIVE)
    assert Serving(0, "new", {}, active).written == ("new", "old")


def test_a_publisher_of_the_canary_is_served_by_the_new_version() -> None:
    serving = Serving(0, "old", {"first": "new"}, ROLLOUT)
    assert [serving.version(name) for name in ("first", "other")] == ["new", "old"]


@pytest.mark.parametrize(
    "state", [None, RolloutState.BACKFILLING, RolloutState.CANARY, RolloutState.ACTIVE]
)
def test_two_versions_are_needed_while_a_rollout_is_under_way(state: RolloutState | None) -> None:
    rollout = replace(ROLLOUT, state=state) if state else None
    publishers = {"first": "new"} if state is RolloutState.CANARY else {}
    default = "new" if state is RolloutState.ACTIVE else "old"
    needed = Serving(0, default, publishers, rollout).needed
    assert needed == ({"new", "old"} if state else {"old"})


def test_a_state_that_does_not_allow_it_is_named() -> None:
    with pytest.raises(RolloutStateInvalid, match="is backfilling: wait"):
        ROLLOUT.check(SWITCHABLE, "wait")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (ScanRates(1000, 800, 50.0), ScanRates(49, 0, 2.0)),
        (ScanRates(49, 49, 2.0), ScanRates(1000, 0, 50.0)),
        (ScanRates(1000, 800, 50.0), ScanRates(1000, 780, 50.0)),
        (ScanRates(60, 48, 3.0), ScanRates(60, 42, 3.0)),
        (ScanRates(1000, 800, 50.0), ScanRates(1000, 900, 90.0)),
    ],
)
def test_few_scans_and_small_changes_are_no_decline(before: ScanRates, now: ScanRates) -> None:
    assert decline(before, now) is None


def test_fewer_matches_and_slower_scans_are_a_decline() -> None:
    before = ScanRates(1000, 800, 50.0)
    assert "fell from 80.0% to 50.0%" in (decline(before, ScanRates(200, 100, 10.0)) or "")
    assert "50 to 110 ms" in (decline(before, ScanRates(200, 160, 22.0)) or "")


def test_how_long_a_backfill_takes_is_told_only_while_it_moves() -> None:
    assert BackfillProgress(50, 100, 0, 10.0).seconds_left == 5.0
    assert BackfillProgress(50, 100, 0, 0.0).seconds_left is None
    assert BackfillProgress(100, 100, 0, 0.0).seconds_left == 0.0


def test_the_gate_lets_an_equal_version_pass() -> None:
    report = compare([a_trial(FOUND, FOUND)] * 50 + [a_stranger(SILENT, SILENT)] * 50, [], 0)
    assert report.passed
    assert (report.new.views, report.new.recall, report.new.false_accepts) == (50, 1.0, 0.0)


def test_the_gate_names_the_views_that_are_lost() -> None:
    report = compare([a_trial(FOUND, FOUND)] * 90 + [a_trial(FOUND, MISSED)] * 10, [], 0)
    assert report.problems == ("Of 100 views of registered references it loses 10 and wins 0.",)
    assert len(report.flips) == 10
    assert (report.flips[0].reference, report.flips[0].answer) == ("one", None)


def test_the_gate_tolerates_what_chance_explains() -> None:
    trials = [a_trial(FOUND, FOUND)] * 80 + [a_trial(FOUND, MISSED)] * 4
    assert compare(trials + [a_trial(MISSED, FOUND)] * 3, [], 0).passed


def test_the_gate_refuses_more_false_accepts_worse_calibration_and_slowness() -> None:
    slow = replace(FOUND, seconds=0.02)
    known, strangers = [a_trial(FOUND, slow)] * 50, [a_stranger(SILENT, WRONG)] * 50
    problems = " ".join(compare(known + strangers, [], 0).problems)
    assert "Of 50 views of strangers it accepts 50, not 0." in problems
    assert "calibration error" in problems
    assert "It takes" in problems


def test_the_gate_refuses_a_version_that_cannot_use_some_images() -> None:
    assert "nothing of 3 registered images" in compare([], [], 3).problems[0]


def test_kept_scans_are_counted_by_what_both_versions_find() -> None:
    report = compare(
        [],
        [
            rescan("one", "one"),
            rescan("", ""),
            rescan("one two", "one"),
            rescan("one", ""),
            rescan("one", "two"),
            rescan("", "one"),
        ],
        0,
    )
    assert report.kept_scans == KeptScanAgreement(6, agreed=2, lost=2, changed=1, gained=1)
    assert report.flips == (
        NegativeFlip("acme", "two", "kept scan", None),
        NegativeFlip("acme", "one", "kept scan", None),
        NegativeFlip("acme", "one", "kept scan", "two"),
    )
    assert report.passed, "three of six may be chance"


def test_the_gate_refuses_to_lose_or_change_kept_scans_whatever_it_gains() -> None:
    rescans = [rescan("one", "one")] * 34 + [rescan("", "one")] * 20
    rescans += [rescan("one", "")] * 4 + [rescan("one", "two")] * 2
    report = compare([], rescans, 0)
    assert report.problems == ("Of 60 kept scans it loses 4 and answers 2 otherwise.",)


def test_the_gate_tolerates_a_few_lost_kept_scans_and_any_that_are_gained() -> None:
    few = [rescan("one", "")] * 3 + [rescan("one", "two")]
    assert compare([], [rescan("one", "one")] * 56 + few, 0).passed
    assert compare([], [rescan("", "one")] * 60, 0).passed
    # A hundredth of many is no loss either.
    assert compare([], [rescan("one", "one")] * 990 + [rescan("one", "")] * 10, 0).passed


def rescan(former: str, new: str) -> Rescan:
    return Rescan("acme", frozenset(former.split()), frozenset(new.split()))


def a_trial(former: Answer, new: Answer) -> Trial:
    return Trial("acme", "one", "clear", former, new)


def a_stranger(former: Answer, new: Answer) -> Trial:
    return Trial("acme", None, "clear", former, new)
