"""Intervals, operating points, reliability and timing of the recognition benchmark."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.intervals import exact_interval, interval, rate
from benchmarks.metrics import Answer, Outcome, Verified
from benchmarks.operating import Ranked, recall_at_precision, recall_interval
from benchmarks.reliability import Judged, judged, plot_reliability, reliability
from benchmarks.timing import costs

CAT, DOG = Path("cat.jpg"), Path("dog.jpg")
QUAD = np.zeros((4, 2), np.float32)


def verified(
    reference: Path, probability: float, *, plausible: bool = True, beyond: bool = False
) -> Verified:
    log_odds = float(np.log(probability / (1 - probability)))
    return Verified(reference, log_odds, probability, 9, 20, 0.5, plausible, beyond, QUAD)


@pytest.mark.parametrize("photos", [10, 300])
def test_nothing_seen_in_n_photos_may_still_be_true_of_three_in_n(photos: int) -> None:
    low, high = interval([(0, 1)] * photos) or (1.0, 0.0)

    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / photos))
    assert 3 / photos < high < 4 / photos
    assert interval([(1, 1)] * photos) == pytest.approx((1 - high, 1.0))


def test_an_interval_holds_the_true_rate_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(150):
        low, high = interval([(int(hit), 1) for hit in rng.random(100) < 0.85]) or (1.0, 0.0)
        held.append(low <= 0.85 <= high)

    assert 0.88 <= np.mean(held) <= 0.99


def test_photos_are_resampled_not_what_they_show() -> None:
    apart = [(1, 1)] * 40 + [(0, 1)] * 40
    together = [(4, 4)] * 10 + [(0, 4)] * 10

    assert rate(apart) == rate(together) == 0.5
    few, many = interval(together), interval(apart)
    assert few is not None
    assert many is not None
    assert few[1] - few[0] > 1.5 * (many[1] - many[0])


def test_without_photos_there_is_no_rate() -> None:
    assert rate([]) is None
    assert interval([]) is None


def test_one_photo_has_a_wide_interval() -> None:
    assert interval([(1, 2)]) == exact_interval(1, 2)


def test_recall_at_a_precision_is_that_of_the_best_threshold() -> None:
    ranked = [
        Ranked(9.0, True, True),
        Ranked(8.0, True, True),
        Ranked(7.0, False, False),
        Ranked(6.0, True, True),
        Ranked(-np.inf, False, True),
    ]

    assert recall_at_precision(ranked, 0.999) == 0.5
    assert recall_at_precision(ranked, 0.75) == 0.75
    assert recall_at_precision(ranked, 0.0) == 0.75


def test_a_threshold_lets_all_of_one_score_through_or_none() -> None:
    ranked = [Ranked(9.0, True, True), Ranked(9.0, False, False)]

    assert recall_at_precision(ranked, 0.9) == 0.0
    assert recall_at_precision(ranked, 0.5) == 1.0


def test_where_nothing_is_registered_nothing_is_recalled() -> None:
    assert recall_at_precision([Ranked(1.0, False, False)], 0.9) is None
    assert recall_interval([Ranked(1.0, False, False)], 0.9) is None
    assert recall_interval(None, 0.9) is None


def test_the_interval_of_recall_at_a_precision_holds_it() -> None:
    ranked = [Ranked(float(number), number % 4 > 0, True) for number in range(60)]

    low, high = recall_interval(ranked, 0.7) or (1.0, 0.0)

    assert low < (recall_at_precision(ranked, 0.7) or -1.0) <= high


def test_probabilities_that_mean_what_they_say_have_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(20_000)
    honest = [Judged(p, rng.random() < p) for p in probabilities.tolist()]
    boastful = [Judged(p**0.2, right) for p, right in honest]

    calibrated, overconfident = reliability(honest), reliability(boastful)

    assert calibrated is not None
    assert overconfident is not None
    assert calibrated["expected_calibration_error"] < 0.02
    # The means of p and of its fifth root are 1/2 and 5/6.
    assert overconfident["expected_calibration_error"] == pytest.approx(1 / 3, abs=0.02)
    assert calibrated["brier_score"] == pytest.approx(1 / 6, abs=0.01)
    assert overconfident["brier_score"] > calibrated["brier_score"]


def test_bins_count_every_candidate_once() -> None:
    found = reliability([Judged(0.0, False), Judged(0.5, True), Judged(1.0, True)])

    assert found is not None
    assert [each["candidates"] for each in found["bins"]] == [1, 1, 1]
    assert found["bins"][-1]["high"] == 1.0
    assert found["brier_score"] == pytest.approx(0.25 / 3)


def test_what_could_not_be_accepted_has_no_say_in_calibration() -> None:
    candidates = (verified(CAT, 0.9), verified(DOG, 0.2), verified(CAT, 0.8, plausible=False))

    assert judged(Answer((), (), 1.0, candidates), {CAT}) == [(0.9, True), (0.2, False)]
    assert judged(Answer((), None, 1.0), {CAT}) == []
    assert reliability([]) is None


def test_the_reliability_plot_is_a_picture_of_several(tmp_path: Path) -> None:
    found = reliability([Judged(0.1, False), Judged(0.95, True)])

    plot_reliability({"real": found, "left_out": None}, tmp_path / "plot.png")

    with Image.open(tmp_path / "plot.png") as picture:
        colours = picture.convert("RGB").getcolors(1_000_000) or []
        assert picture.width > picture.height > 300
        assert len(colours) > 10


def scanned(milliseconds: float, **stages: float) -> Answer:
    return Answer((), (), milliseconds, (), stages, milliseconds)


def test_costs_are_medians_of_the_scans_that_came_to_a_stage() -> None:
    outcomes = [
        Outcome(Path("1.jpg"), (CAT,), scanned(10.0, coarse=10.0), scanned(90.0, coarse=1.0)),
        Outcome(Path("2.jpg"), (CAT,), scanned(14.0, coarse=14.0), scanned(80.0, coarse=1.0)),
        Outcome(Path("3.jpg"), (CAT,), scanned(60.0, coarse=12.0, fine=48.0)),
        Outcome(Path("4.jpg"), (), scanned(70.0, coarse=1.0)),
    ]

    found = costs(outcomes)

    assert found["registered"] == {
        "scans": 3,
        "total": 14.0,
        "stages": {"coarse": 12.0, "fine": 48.0},
        "reached": {"coarse": 1.0, "fine": pytest.approx(1 / 3)},
    }
    assert found["unregistered"] is not None
    assert (found["unregistered"]["scans"], found["unregistered"]["total"]) == (3, 80.0)


def test_a_server_that_tells_no_stages_has_no_costs() -> None:
    remote = Outcome(Path("1.jpg"), (CAT,), Answer((), None, 10.0))

    assert costs([remote]) == {"registered": None, "unregistered": None}
