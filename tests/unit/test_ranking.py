import numpy as np
import pytest

from training.ranking import Ranking, micro_ap, recall_at, recall_at_precision


def ranking(found, scores, *answers):
    return Ranking(np.array(found, np.int64), np.array(scores, np.float32), answers)


def test_recall_counts_answers_among_the_first():
    rankings = [ranking([3, 1, 2], [3, 2, 1], 3), ranking([4, 5, 6, 7, 8, 9], range(6, 0, -1), 9)]
    assert recall_at(rankings) == {"1": 0.5, "5": 0.5, "20": 1.0, "50": 1.0}


def test_of_two_answers_only_one_can_be_first():
    assert recall_at([ranking([1, 2], [2, 1], 1, 2)])["1"] == 0.5


def test_photos_of_nothing_known_do_not_count_for_recall():
    assert recall_at([ranking([1], [1], 1), ranking([2], [1])])["1"] == 1.0


def test_a_stranger_with_a_high_score_costs_precision():
    known, stranger = ranking([1], [0.8], 1), ranking([2], [0.9])
    assert micro_ap([known]) == 1.0
    assert micro_ap([known, stranger]) == 0.5
    assert recall_at_precision([known, stranger]) == 0.0
    assert recall_at_precision([known, ranking([2], [0.7])]) == 1.0


def test_equal_scores_help_nobody():
    assert micro_ap([ranking([1], [0.5], 1), ranking([2], [0.5])]) == 0.5


def test_micro_ap_is_the_area_under_all_findings_together():
    rankings = [ranking([1, 9], [0.9, 0.6], 1), ranking([8, 2], [0.8, 0.7], 2)]
    assert micro_ap(rankings) == pytest.approx((1 + 2 / 3) / 2)


def test_nothing_to_find_is_no_recall():
    assert micro_ap([ranking([1], [1])]) == 0
    assert recall_at_precision([]) == 0
