"""How well a gallery is ranked for photos: recall@k, recall at a precision, micro-AP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RANKS = (1, 5, 20, 50)
PRECISION = 0.9

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What was found for one photo: images of the gallery, the likeliest first, and their scores.

    ``found`` is int64 [k], ``scores`` float32 [k], comparable between photos; ``answers`` are the
    images that the photo shows, none where it shows nothing that is in the gallery.
    """

    found: Ints
    scores: Floats
    answers: tuple[int, ...]


def recall_at(rankings: Sequence[Ranking]) -> dict[str, float]:
    """The share of answers among the first 1, 5, 20 and 50 of their photo's ranking.

    A photo of two things has two answers, of which one at most can be first.
    """
    wanted = sum(len(each.answers) for each in rankings)
    return {
        str(rank): sum(int(np.isin(each.found[:rank], each.answers).sum()) for each in rankings)
        / max(1, wanted)
        for rank in RANKS
    }


def micro_ap(rankings: Sequence[Ranking]) -> float:
    """The average precision of all photos' findings together, ordered by their scores.

    As in the image similarity challenge of 2021 (Douze et al.): a photo that shows nothing of the
    gallery can only do harm, so it measures one threshold for all.
    """
    right, wanted = _ordered(rankings)
    if not wanted:
        return 0.0
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float((precision * right).sum() / wanted)


def recall_at_precision(rankings: Sequence[Ranking], precision: float = PRECISION) -> float:
    """The largest share of answers found by a threshold on the score that is so often right."""
    right, wanted = _ordered(rankings)
    hits = np.cumsum(right)
    reached = hits[hits >= precision * np.arange(1, len(right) + 1)]
    return float(reached.max(initial=0) / max(1, wanted))


def _ordered(rankings: Sequence[Ranking]) -> tuple[npt.NDArray[np.bool_], int]:
    """Whether each finding is right, by falling score, and how many answers there are."""
    scores = np.concatenate([np.zeros(0, np.float32), *(each.scores for each in rankings)])
    right = [np.isin(each.found, each.answers) for each in rankings]
    wanted = sum(len(each.answers) for each in rankings)
    # Of equal scores the wrong comes first, so that chance never helps.
    together = np.concatenate([np.zeros(0, bool), *right])
    return together[np.lexsort((together, -scores))], wanted
