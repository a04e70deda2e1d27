"""How certainty adds up over the frames of a camera session."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.decision import ChannelCalibration
from indexing.session import CORRELATION, Session, joint_rarity
from tests.unit.sightings import CALIBRATION, candidate

BUDGET = 0.001
ENOUGH = -math.log(BUDGET)
SURE = 20.0
AWAY = 2.0

rarities = st.lists(st.floats(0, 40), min_size=1, max_size=8)
correlations = st.floats(0, 1)


def told(session: Session, shown: Sequence[float | None], start: float = 0.0) -> list[int]:
    """The frames, of one a second, at which a reference of such rarities is told."""
    return [
        number
        for number, rarity in enumerate(shown)
        if session.see(
            [] if rarity is None else [candidate("a", rarity)], CALIBRATION, start + number
        )
    ]


# How rarities join


@given(st.floats(0, 40), correlations)
def test_one_frame_is_as_rare_as_it_is(rarity: float, correlation: float) -> None:
    assert joint_rarity([rarity], correlation) == pytest.approx(rarity, abs=1e-9)


@given(rarities)
def test_frames_that_all_say_the_same_count_as_one(shown: list[float]) -> None:
    assert joint_rarity(shown, 1.0) == pytest.approx(np.mean(shown), abs=1e-9)


@given(rarities, correlations)
def test_together_frames_are_never_rarer_than_their_product(
    shown: list[float], correlation: float
) -> None:
    assert -1e-9 <= joint_rarity(shown, correlation) <= sum(shown) + 1e-6


@given(rarities, correlations, st.data())
def test_more_evidence_in_a_frame_never_makes_a_reference_less_certain(
    shown: list[float], correlation: float, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(shown) - 1))
    more = list(shown)
    more[number] += data.draw(st.floats(0, 10))
    assert joint_rarity(more, correlation) >= joint_rarity(shown, correlation) - 1e-9


def test_independent_frames_are_joined_as_fisher_did() -> None:
    # Two p-values of 0.05: a chi-squared of 11.98 with four degrees of freedom.
    assert math.exp(-joint_rarity([-math.log(0.05)] * 2, 0.0)) == pytest.approx(0.0175, abs=1e-4)


@pytest.mark.parametrize("budget", [0.01, 0.1])
def test_chance_tells_no_more_often_than_the_budget_allows(budget: float) -> None:
    # A stranger's frames: some repeat what chance gave the session, so that two have the correlation.
    rng = np.random.default_rng(1)
    sessions, frames = 1500, 12
    common, own = rng.exponential(size=(sessions, 1)), rng.exponential(size=(sessions, frames))
    repeats = rng.random((sessions, frames)) < math.sqrt(CORRELATION)
    shown = np.where(repeats, common, own)
    begun = sum(len(told(Session(budget, AWAY), row.tolist())) for row in shown)
    assert 0 < begun <= budget * sessions * frames


# What is told


def test_a_certain_frame_is_told_at_once_and_alone() -> None:
    (sighting,) = Session(BUDGET, AWAY).see([candidate("a", SURE)], CALIBRATION, 0.0)
    assert sighting.match.candidate.reference == "a"
    assert sighting.match.log_odds == pytest.approx(SURE + math.log(2))
    assert sighting.frames == 1


def test_frames_just_below_the_threshold_become_certain_together() -> None:
    session, shown = Session(BUDGET, AWAY), ENOUGH - 0.5
    found = [session.see([candidate("a", shown)], CALIBRATION, float(n)) for n in range(8)]
    assert [len(each) for each in found] == [0, 0, 0, 1, 0, 0, 0, 0]
    ((sighting,),) = [each for each in found if each]
    assert sighting.frames == 4
    # More certain than this frame by itself, and as certain as the threshold asks.
    assert sighting.match.log_odds >= ENOUGH + math.log(2) > shown + math.log(2)


def test_a_mere_resemblance_never_becomes_certain() -> None:
    # All frames together are worth two; half the rarity, twice, is not enough.
    assert told(Session(BUDGET, AWAY), [ENOUGH / 2] * 500) == []


def test_a_frame_without_it_counts_against_it() -> None:
    nearly = ENOUGH - 0.5
    assert told(Session(BUDGET, AWAY), [nearly, nearly, None, nearly]) == []


def test_a_reference_that_shows_only_at_last_is_not_held_up_by_the_frames_before() -> None:
    assert told(Session(BUDGET, AWAY), [1.0] * 10 + [SURE]) == [10]


# Told once


def test_what_stays_in_view_is_told_once_however_weak_some_frames_are() -> None:
    assert told(Session(BUDGET, AWAY), [SURE, 1.0, SURE, None, SURE, 1.0, None, SURE]) == [0]


def test_what_left_for_some_seconds_is_told_again() -> None:
    assert told(Session(BUDGET, AWAY), [SURE, None, None, SURE, SURE]) == [0, 3]
    assert told(Session(BUDGET, AWAY), [SURE, None, SURE, SURE]) == [0]


def test_a_time_without_frames_is_no_time_out_of_view() -> None:
    session = Session(BUDGET, AWAY)
    assert told(session, [SURE]) == [0]
    assert told(session, [SURE], start=100.0) == []


@given(
    st.lists(st.tuples(st.sampled_from([None, 1.0, 5.0, SURE]), st.floats(0.1, 1.0)), max_size=40)
)
def test_between_two_tellings_it_was_away(frames: list[tuple[float | None, float]]) -> None:
    session, now, missing, last = Session(BUDGET, 1.0), 0.0, None, None
    away = 0.0
    for rarity, pause in frames:
        now += pause
        if rarity is None:
            missing = now if missing is None else missing
            away = max(away, now - missing)
        elif missing is not None:
            away, missing = max(away, now - missing), None
        shown = [] if rarity is None else [candidate("a", rarity)]
        if session.see(shown, CALIBRATION, now):
            assert last is None or away >= 1.0
            last, away = now, 0.0


def test_several_in_view_are_told_each_the_most_certain_first() -> None:
    shown = [candidate("a", SURE), candidate("b", SURE + 5, place=0.5)]
    found = Session(BUDGET, AWAY).see(shown, CALIBRATION, 0.0)
    assert [sighting.match.candidate.reference for sighting in found] == ["b", "a"]


def test_a_twin_at_the_place_of_what_was_told_is_not_told() -> None:
    session = Session(BUDGET, AWAY)
    assert told(session, [SURE]) == [0]
    for second in range(1, 10):
        shown = [candidate("a", SURE), candidate("twin", SURE + 5)]
        assert session.see(shown, CALIBRATION, float(second)) == []
    # Elsewhere it is another thing.
    shown = [candidate("a", SURE), candidate("twin", SURE, place=0.5)]
    assert len(session.see(shown, CALIBRATION, 10.0)) == 1


def test_implausible_candidates_are_no_evidence() -> None:
    session, shown = Session(BUDGET, AWAY), candidate("a", SURE)
    object.__setattr__(shown.evidence.geometry, "plausible", False)
    assert session.see([shown], CALIBRATION, 0.0) == []


# Rarity


@given(st.floats(1e-9, 0.5), st.floats(0.2, 1.0), st.floats(-8, 2))
def test_rarity_is_the_budget_whose_threshold_it_is(
    budget: float, scale: float, offset: float
) -> None:
    calibration = ChannelCalibration({}, 0.0, offset, scale)
    rarity = calibration.rarity(calibration.threshold(budget))
    assert rarity == pytest.approx(-math.log(budget), abs=1e-6)


def test_rarity_without_a_tail_is_all_or_nothing() -> None:
    calibration = ChannelCalibration({}, 0.0, 1.0, 0.0)
    assert (calibration.rarity(0.9), calibration.rarity(1.1)) == (0.0, 50.0)
