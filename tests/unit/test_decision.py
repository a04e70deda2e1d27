from dataclasses import replace

import numpy as np
import pytest

from indexing.appearance import Agreement
from indexing.decision import Candidate, ChannelCalibration, Evidence, accepted
from indexing.keypoints import Channel
from indexing.reference import DEFAULT_FALSE_ACCEPT_BUDGET
from indexing.verification import Correspondences, Geometry
from training.calibration import Trial, fit_calibration, fit_regression

SQUARE = np.array([[0, 0], [0.4, 0], [0.4, 0.4], [0, 0.4]], np.float32)
WEIGHTS = {
    "spread_significance": 1.0,
    "inlier_ratio": 1.0,
    "better_half_agreement": 1.0,
    "pose": 2.0,
}
CALIBRATION = {channel: ChannelCalibration(WEIGHTS, -9.0, 0.0, 0.2) for channel in Channel}


def candidate(
    name: str,
    inliers: int,
    matches: int = 60,
    quad: np.ndarray = SQUARE,
    plausible: bool = True,
    pose_error: float = 0.0,
) -> Candidate:
    points = np.zeros((matches, 2), np.float32)
    correspondences = Correspondences(points, points, np.arange(matches) < inliers)
    geometry = Geometry(quad, correspondences, inliers, min(1.0, inliers / 30), plausible)
    return Candidate(
        name,
        "https://example.com",
        {},
        Evidence(Channel.ORB, 0.5, 0.5, geometry, Agreement(0.5, 0.5), pose_error),
    )


def names(*candidates: Candidate, budget: float = 0.001) -> list[str]:
    return [match.candidate.reference for match in accepted(candidates, CALIBRATION, budget)]


def test_significance_grows_with_inliers_and_falls_with_chances() -> None:
    few, many = candidate("a", 8).evidence, candidate("a", 20).evidence
    assert many.geometry.significance > few.geometry.significance
    assert candidate("a", 8, 200).evidence.geometry.significance < few.geometry.significance


def test_chance_homographies_are_not_significant() -> None:
    assert candidate("a", 7, 250).evidence.geometry.significance < 0
    assert candidate("a", 6, 8).evidence.geometry.significance > 0


def test_only_candidates_beyond_the_threshold_are_accepted() -> None:
    elsewhere = SQUARE + 0.5
    assert names(candidate("sure", 40), candidate("weak", 6, quad=elsewhere)) == ["sure"]


def test_implausible_quads_are_never_accepted() -> None:
    assert names(candidate("a", 50, plausible=False)) == []


def test_quads_that_a_camera_hardly_sees_are_less_probable() -> None:
    flat, skewed, none = (candidate("a", 20, pose_error=error) for error in (0.0, 0.1, np.inf))
    odds = [CALIBRATION[Channel.ORB].log_odds(each.evidence) for each in (flat, skewed, none)]
    assert odds == sorted(odds, reverse=True)
    assert odds[0] - odds[2] == pytest.approx(2.0)


def test_a_similarity_counts_only_where_it_is_known() -> None:
    alike = candidate("a", 20).evidence
    unlike, unknown = replace(alike, similarity=-0.1), replace(alike, similarity=None)
    weighed = ChannelCalibration(WEIGHTS | {"similarity": 4.0}, -9.0, 0.0, 0.2)
    assert weighed.log_odds(alike) - weighed.log_odds(unlike) == pytest.approx(4.0 * 0.5)
    assert weighed.log_odds(unlike) == weighed.log_odds(unknown)


def test_the_same_inliers_say_more_when_they_are_spread_over_more_of_a_reference() -> None:
    narrow = candidate("a", 20).evidence
    wide = replace(narrow, geometry=replace(narrow.geometry, coverage=1.0))
    assert CALIBRATION[Channel.ORB].log_odds(wide) > CALIBRATION[Channel.ORB].log_odds(narrow)


def test_inliers_that_chance_would_give_say_nothing_however_spread_they_are() -> None:
    chance = candidate("a", 7, 250).evidence
    assert chance.features()["spread_significance"] == 0.0


def test_smaller_budget_asks_for_more() -> None:
    calibration = CALIBRATION[Channel.ORB]
    assert calibration.threshold(0.0001) > calibration.threshold(0.01)


def test_of_several_at_one_place_only_the_best_is_kept() -> None:
    assert names(candidate("good", 40), candidate("better", 50)) == ["better"]
    apart = candidate("good", 40, quad=SQUARE + 0.5)
    assert sorted(names(apart, candidate("better", 50))) == ["better", "good"]


def test_a_reference_is_answered_once() -> None:
    assert names(candidate("a", 40), candidate("a", 50, quad=SQUARE + 0.5)) == ["a"]


def test_regression_never_counts_evidence_against_a_match() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.5).astype(np.float64)
    helpful, misleading = labels + rng.normal(0, 0.5, 400), -labels + rng.normal(0, 0.5, 400)
    weights, intercept = fit_regression(np.c_[helpful, misleading], labels)
    assert weights[0] > 1
    assert weights[1] == pytest.approx(0, abs=1e-6)
    assert intercept < 0


def trial(channel: Channel, shows: str | None, inliers: int, gallery_size: int = 100) -> Trial:
    found = candidate("a", inliers)
    evidence = replace(found.evidence, channel=channel)
    return Trial(channel, gallery_size, shows, set(), (replace(found, evidence=evidence),))


def test_what_is_answered_is_as_likely_right_as_wrong_though_no_view_was_in_doubt() -> None:
    views = [("a", 60), (None, 6)] * 50
    trials = [trial(channel, *view) for channel in Channel for view in views]
    for calibration in fit_calibration(trials).values():
        assert calibration.threshold(DEFAULT_FALSE_ACCEPT_BUDGET) == pytest.approx(0.0)
        assert calibration.threshold(1e-5) > calibration.threshold(DEFAULT_FALSE_ACCEPT_BUDGET)


def test_what_one_channel_teaches_holds_for_the_other() -> None:
    views = [("a", 60), (None, 6)] * 50
    orb = [trial(Channel.ORB, *view) for view in views]
    doubtful = [trial(Channel.FINE, *view) for view in [*views, *[(None, 50)] * 50]]
    for calibration in fit_calibration([*orb, *doubtful]).values():
        assert calibration.log_odds(candidate("a", 50).evidence) < 0


def test_the_threshold_is_that_of_the_gallery_with_most_to_confuse() -> None:
    shown = [("a", inliers) for inliers in range(10, 60)]
    small = [
        trial(channel, *view, 10) for channel in Channel for view in [*shown, *[(None, 6)] * 2000]
    ]
    rare = np.random.default_rng(0).exponential(5.0, 400).astype(int)
    strange = [(None, 6 + more) for more in rare.tolist()]
    large = [trial(channel, *view, 1000) for channel in Channel for view in [*shown, *strange]]
    both = fit_calibration([*small, *large])
    pooled = fit_calibration([replace(each, gallery_size=1) for each in [*small, *large]])
    for channel in Channel:
        assert both[channel].threshold(0.001) > pooled[channel].threshold(0.001) + 0.5
