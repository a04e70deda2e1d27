from dataclasses import replace
from typing import NamedTuple

import cv2
import imagelink
import numpy as np
import numpy.typing as npt
import pytest
from imagelink._conversions import verdict as converted
from imagelink.v1 import recognition_pb2
from PIL import Image

from indexing.appearance import NO_AGREEMENT, Agreement
from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.decision import Calibration, Candidate, Evidence, accepted
from indexing.explanation import Judge, Judgement, Verdict
from indexing.explanation_picture import INLIER, OUTLIER, VERDICTS, draw_explanation
from indexing.image import Pixels
from indexing.keypoints import Channel, LocalFeatures
from indexing.verification import Correspondences, Geometry, pose_error, verify

BUDGET = 0.001
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
LEFT = np.array([[0.1, 0.1], [0.4, 0.15], [0.42, 0.85], [0.08, 0.8]], np.float32)
RIGHT = LEFT + np.array([0.5, 0], np.float32)
BLUE, PURPLE = (20, 40, 200), (120, 20, 120)
FIRST, SECOND = Channel


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return load_bundle(DEFAULT_BUNDLE).calibration


# What was decided


def seen_at(quad: npt.NDArray[np.float32]) -> Geometry:
    """A reference whose 49 keypoints are all found where they should be."""
    grid = np.stack(np.meshgrid(*2 * [np.linspace(0.05, 0.95, 7)]), axis=-1)
    known = grid.reshape(-1, 2).astype(np.float32)
    homography = cv2.getPerspectiveTransform(CORNERS, quad)
    seen = cv2.perspectiveTransform(known[None], homography)[0].astype(np.float32)
    count = len(known)
    upright = np.zeros(count, np.float32)
    size = np.full(count, 0.05, np.float32)
    none = np.zeros((count, 0), np.uint8)
    shrunk = np.float32(np.sqrt(cv2.contourArea(quad)))
    geometry = verify(
        LocalFeatures(seen, size * shrunk, upright, none, 1.0),
        LocalFeatures(known, size, upright, none, 1.0),
    )
    assert geometry is not None
    return geometry


def hardly(geometry: Geometry) -> Geometry:
    """The same quad, on the word of a few matches in a corner of the reference."""
    few = np.arange(geometry.matches) < 6
    matched = replace(geometry.correspondences, inlier=few)
    return replace(geometry, correspondences=matched, inliers=6, coverage=0.0625)


def candidate(name: str, geometry: Geometry, channel: Channel = FIRST) -> Candidate:
    evidence = Evidence(
        channel=channel,
        similarity=0.5,
        vote_share=0.1,
        geometry=geometry,
        agreement=Agreement(0.5, 0.5),
        pose_error=pose_error(geometry, 1.0, 1.0),
    )
    return Candidate(name, "https://example.com/", {}, evidence)


def judged(
    calibration: Calibration, *candidates: Candidate, budget: float = BUDGET
) -> list[Judgement]:
    matches = accepted(candidates, calibration, budget)
    return Judge(calibration, budget).judge(candidates, matches)


def test_a_match_is_accepted_with_the_probability_of_the_scan(calibration: Calibration) -> None:
    sure = candidate("sure", seen_at(LEFT))
    (match,) = accepted([sure], calibration, BUDGET)
    (judgement,) = judged(calibration, sure)
    assert (judgement.reference, judgement.verdict) == ("sure", Verdict.ACCEPTED)
    assert judgement.comparison is not None
    assert judgement.comparison.match == match
    assert match.probability >= judgement.comparison.threshold_probability > 0
    assert judgement.margin >= 0


def test_what_is_not_certain_enough_is_below_the_threshold(calibration: Calibration) -> None:
    (judgement,) = judged(calibration, candidate("doubtful", hardly(seen_at(LEFT))))
    assert judgement.verdict is Verdict.BELOW_THRESHOLD
    assert judgement.comparison is not None
    compared = judgement.comparison
    assert compared.match.probability < compared.threshold_probability < 1
    assert judgement.margin < 0


def test_an_impossible_shape_is_named_whatever_its_evidence(calibration: Calibration) -> None:
    twisted = replace(seen_at(LEFT), plausible=False)
    (judgement,) = judged(calibration, candidate("twisted", twisted))
    assert judgement.verdict is Verdict.IMPLAUSIBLE_QUAD
    assert judgement.margin >= 0


def test_the_less_probable_of_two_at_one_place_gave_way(calibration: Calibration) -> None:
    whole = seen_at(LEFT)
    matched = replace(whole.correspondences, inlier=np.arange(whole.matches) < whole.inliers - 5)
    less = replace(whole, correspondences=matched, inliers=whole.inliers - 5)
    judgements = judged(calibration, candidate("less", less), candidate("more", whole))
    assert [(each.reference, each.verdict) for each in judgements] == [
        ("more", Verdict.ACCEPTED),
        ("less", Verdict.SAME_PLACE_AS_BETTER),
    ]
    elsewhere = judged(
        calibration,
        candidate("less", replace(less, quad=RIGHT)),
        candidate("more", whole),
    )
    assert [each.verdict for each in elsewhere] == [Verdict.ACCEPTED, Verdict.ACCEPTED]


def test_a_smaller_budget_asks_for_more(calibration: Calibration) -> None:
    sure = candidate("sure", seen_at(LEFT))
    needed = []
    for budget in (0.01, 0.0001):
        (judgement,) = judged(calibration, sure, budget=budget)
        assert judgement.comparison is not None
        needed.append(judgement.comparison.threshold_probability)
    assert needed[0] < needed[1]


def test_a_reference_is_judged_once_by_what_came_nearest(calibration: Calibration) -> None:
    weak = hardly(seen_at(LEFT))
    candidates = [candidate("a", weak, channel) for channel in (FIRST, SECOND)]
    alone = [judged(calibration, each)[0] for each in candidates]
    (judgement,) = judged(calibration, *candidates)
    assert judgement.margin == max(each.margin for each in alone)
    assert judgement.channel in (FIRST, SECOND)


def test_matches_come_first_and_then_those_nearest_to_one(calibration: Calibration) -> None:
    weak = candidate("weak", hardly(seen_at(LEFT)))
    unlike = replace(weak.evidence, agreement=NO_AGREEMENT)
    judgements = judged(
        calibration,
        replace(weak, reference="weaker", evidence=unlike),
        weak,
        candidate("twisted", replace(seen_at(LEFT), plausible=False)),
        candidate("sure", seen_at(RIGHT)),
    )
    assert judgements[0].reference == "sure"
    assert {each.reference for each in judgements[1:3]} == {"twisted", "weak"}
    assert [each.margin for each in judgements[1:]] == sorted(
        (each.margin for each in judgements[1:]), reverse=True
    )


def test_every_verdict_has_its_name_in_the_api_and_its_words() -> None:
    named = {name.removeprefix("VERDICT_") for name in recognition_pb2.Verdict.keys()}  # noqa: SIM118
    assert named - {"UNSPECIFIED"} == set(Verdict.__members__) == {v.name for v in VERDICTS}
    for ours in Verdict:
        theirs = converted(recognition_pb2.Verdict.Value(f"VERDICT_{ours.name}"))
        assert theirs.value == ours.value
    assert converted(999) is imagelink.Verdict.UNKNOWN
    assert all(verdict.explanation for verdict in imagelink.Verdict)


# What is drawn


class Drawn(NamedTuple):
    """A drawn explanation, and where the two pictures lie in it: left, top, width, height."""

    pixels: Pixels
    photo: npt.NDArray[np.int_]
    reference: npt.NDArray[np.int_]

    def at(self, box: npt.NDArray[np.int_], share: npt.ArrayLike) -> tuple[int, ...]:
        """The colour at a point given in shares of a picture's sides."""
        x, y = np.rint(box[:2] + np.asarray(share) * box[2:]).astype(int)
        return tuple(self.pixels[y, x].tolist())


def flat(colour: tuple[int, int, int], width: int, height: int) -> Pixels:
    return np.full((height, width, 3), colour, np.uint8)


def box_of(pixels: Pixels, colour: tuple[int, int, int]) -> npt.NDArray[np.int_]:
    rows, columns = np.nonzero((pixels == colour).all(axis=2))
    left, top = columns.min(), rows.min()
    return np.array([left, top, columns.max() + 1 - left, rows.max() + 1 - top])


def drawn(
    judgement: Judgement,
    photo: tuple[int, int] = (400, 300),
    reference: tuple[int, int] = (200, 300),
) -> Drawn:
    """Draws over flat pictures, so that all else is what was drawn."""
    pictures = flat(BLUE, *photo), flat(PURPLE, *reference)
    bare = np.asarray(draw_explanation(*pictures, Judgement("bare", Verdict.NOT_A_CANDIDATE)))
    image = draw_explanation(*pictures, judgement)
    assert image.mode == "RGB"
    assert image.size == Image.fromarray(bare).size
    return Drawn(np.asarray(image), box_of(bare, BLUE), box_of(bare, PURPLE))


@pytest.fixture(scope="module")
def sure(calibration: Calibration) -> Judgement:
    (judgement,) = judged(calibration, candidate("poster", seen_at(LEFT)))
    return judgement


def geometry_of(judgement: Judgement) -> Geometry:
    assert judgement.comparison is not None
    return judgement.comparison.match.candidate.evidence.geometry


def redrawn(judgement: Judgement, **changes: object) -> Judgement:
    """The same judgement of another geometry."""
    assert judgement.comparison is not None
    geometry = replace(geometry_of(judgement), **changes)
    shown = judgement.comparison.match.candidate
    other = replace(shown, evidence=replace(shown.evidence, geometry=geometry))
    match = replace(judgement.comparison.match, candidate=other)
    return replace(judgement, comparison=replace(judgement.comparison, match=match))


def matches(seen: npt.ArrayLike, known: npt.ArrayLike, inlier: list[bool]) -> Correspondences:
    ends = (np.asarray(points, np.float32) for points in (seen, known))
    return Correspondences(*ends, np.array(inlier))


def test_the_pictures_lie_side_by_side_in_their_proportions() -> None:
    pixels, photo, reference = drawn(Judgement("poster", Verdict.NOT_A_CANDIDATE))
    assert photo[0] + photo[2] < reference[0]
    assert photo[2] / photo[3] == pytest.approx(400 / 300, abs=0.01)
    assert reference[2] / reference[3] == pytest.approx(200 / 300, abs=0.01)
    below = pixels[min(photo[1], reference[1]) :]
    others = (below != BLUE).any(axis=2) & (below != PURPLE).any(axis=2)
    assert len(np.unique(below[others], axis=0)) == 1, "something is drawn over the pictures"


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.IMPLAUSIBLE_QUAD])
def test_the_quad_lies_over_the_photo_in_the_colour_of_the_verdict(
    sure: Judgement, verdict: Verdict
) -> None:
    outside = matches([[0.9, 0.9]], [[0.5, 0.5]], [True])
    picture = drawn(replace(redrawn(sure, correspondences=outside), verdict=verdict))
    quad = geometry_of(sure).quad
    for middle in (quad + np.roll(quad, 1, axis=0)) / 2:
        assert picture.at(picture.photo, middle) == VERDICTS[verdict][1]
    assert picture.at(picture.photo, quad.mean(axis=0)) == BLUE


def test_inliers_are_green_and_outliers_faintly_red(sure: Judgement) -> None:
    seen, known = [[0.6, 0.3], [0.8, 0.7]], [[0.2, 0.4], [0.7, 0.9]]
    picture = drawn(redrawn(sure, correspondences=matches(seen, known, [True, False])))
    for box, points, ground in (
        (picture.photo, seen, BLUE),
        (picture.reference, known, PURPLE),
    ):
        assert picture.at(box, points[0]) == INLIER
        faint = np.array(picture.at(box, points[1]))
        assert np.linalg.norm(faint - ground) < np.linalg.norm(faint - OUTLIER)
        assert faint[0] > ground[0]


def test_a_line_joins_the_ends_of_a_match(sure: Judgement) -> None:
    joined = matches([[0.9, 0.5]], [[0.1, 0.5]], [True])
    pixels, photo, reference = drawn(redrawn(sure, correspondences=joined))
    start = (photo[:2] + photo[2:] * [0.9, 0.5]).astype(int)
    end = (reference[:2] + reference[2:] * [0.1, 0.5]).astype(int)
    for x in range(start[0], end[0]):
        row = round(np.interp(x, [start[0], end[0]], [start[1], end[1]]))
        near = pixels[row - 2 : row + 3, x].astype(int)
        assert np.abs(near - INLIER).sum(axis=1).min() < 60, f"there is a gap at {x}"


@pytest.mark.parametrize("far", [3.0, 1e6, 1e30, float("inf"), float("nan")])
def test_a_quad_that_leaves_the_photo_touches_nothing_else(sure: Judgement, far: float) -> None:
    quad = geometry_of(sure).quad.copy()
    quad[1:3, 0] = far
    one = matches([[0.5, 0.5]], [[0.5, 0.5]], [True])
    without = drawn(redrawn(sure, correspondences=one))
    picture = drawn(redrawn(sure, correspondences=one, quad=quad))
    beyond = picture.photo[0] + picture.photo[2]
    assert (picture.pixels[:, beyond:] == without.pixels[:, beyond:]).all()
    assert (picture.pixels != without.pixels).any()


@pytest.mark.parametrize("far", [3.0, 1e6, 1e30, float("inf")])
def test_a_side_that_leaves_the_photo_goes_to_where_its_end_is(sure: Judgement, far: float) -> None:
    quad = geometry_of(sure).quad.copy()
    quad[1] = far, quad[0, 1]
    outside = matches([[0.9, 0.9]], [[0.5, 0.5]], [True])
    picture = drawn(redrawn(sure, correspondences=outside, quad=quad))
    assert picture.at(picture.photo, (0.95, quad[0, 1])) == VERDICTS[sure.verdict][1]


@pytest.mark.parametrize("sides", [(64, 640), (640, 2), (1, 640), (640, 640)])
def test_pictures_of_any_shape_leave_room_for_the_words(
    sure: Judgement, sides: tuple[int, int]
) -> None:
    pixels, photo, reference = drawn(replace(sure, reference="w" * 63), sides, sides)
    assert photo[2] >= 1
    assert reference[3] >= 1
    paper = pixels[0, 0]
    assert (pixels[:, :8] == paper).all(), "words or pictures leave at the left"
    assert (pixels[:, -8:] == paper).all(), "words or pictures leave at the right"
    assert (pixels[: min(photo[1], reference[1])] != paper).any()
