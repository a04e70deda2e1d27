import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.failures import find_failures
from benchmarks.metrics import Answer, Covered, Found, Outcome, accepted_first, measured
from benchmarks.pictures import GREEN, annotated, contact_sheet, titled
from benchmarks.recognition import scan_all
from indexing.image import Pixels
from training.datasets import AnsweredQueries, Pair

CAT, DOG, COW = Path("cat.jpg"), Path("dog.jpg"), Path("cow.jpg")
QUAD = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], np.float32)


def answer(
    *found: Path, shortlist: tuple[Path, ...] | None = (), milliseconds: float = 10.0
) -> Answer:
    accepted = tuple(Found(path, 0.99, QUAD) for path in found)
    return Answer(accepted, shortlist, milliseconds)


def outcome(
    expected: tuple[Path, ...],
    got: Answer,
    left_out: Answer | None = None,
    covered: Answer | None = None,
    group: str = "",
) -> Outcome:
    hidden = Covered(lambda: np.zeros((9, 9, 3), np.uint8), covered) if covered else None
    return Outcome(Path("photo.jpg"), expected, got, left_out, hidden, group)


def test_recall_counts_pairs_of_photo_and_reference() -> None:
    outcomes = [
        outcome((CAT, DOG), answer(CAT)),
        outcome((COW,), answer(COW)),
        outcome((), answer()),
    ]

    assert measured(outcomes)["recall_at_1"] == pytest.approx(2 / 3)


def test_shortlist_recall_looks_at_the_first_of_the_shortlist() -> None:
    others = tuple(Path(f"{number}.jpg") for number in range(30))
    outcomes = [
        outcome((CAT,), answer(shortlist=(CAT, *others))),
        outcome((DOG,), answer(shortlist=(*others[:4], DOG))),
        outcome((COW,), answer(shortlist=(*others, COW))),
        outcome((COW,), answer(shortlist=others)),
    ]

    recall = measured(outcomes)["shortlist_recall"]

    assert recall == {"1": 0.25, "5": 0.5, "20": 0.5, "50": 0.75}


def test_accepted_references_lead_the_shortlist() -> None:
    assert accepted_first([COW], [CAT, COW, DOG]) == (COW, CAT, DOG)


def test_each_kind_of_false_accept_has_its_own_photos() -> None:
    outcomes = [
        outcome((CAT,), answer(CAT, DOG), left_out=answer(DOG)),
        outcome((CAT,), answer(DOG), left_out=answer()),
        outcome((CAT,), answer(CAT), left_out=answer()),
        outcome((CAT,), answer(), left_out=answer()),
        outcome((), answer(COW)),
        outcome((), answer()),
        outcome((), answer()),
    ]

    metrics = measured(outcomes)

    assert metrics["queries"] == 7
    assert metrics["wrong_accept_rate"] == 0.5
    assert metrics["left_out_false_accept_rate"] == 0.25
    assert metrics["false_accept_rate"] == pytest.approx(1 / 3)
    assert metrics["false_positive_identification_rate"] == pytest.approx(2 / 7)


def test_recall_of_covered_photos_counts_what_was_found_in_them() -> None:
    outcomes = [
        outcome((CAT, DOG), answer(CAT, DOG), covered=answer(DOG)),
        outcome((CAT,), answer(), covered=answer(CAT)),
        outcome((), answer()),
    ]

    assert measured(outcomes)["covered_recall_at_1"] == pytest.approx(2 / 3)


def test_each_sub_folder_has_rates_of_its_own() -> None:
    outcomes = [
        outcome((CAT,), answer(CAT), group="phone"),
        outcome((CAT,), answer(), group="phone"),
        outcome((CAT,), answer(CAT), group="camera"),
        outcome((), answer(CAT)),
    ]

    by_group = measured(outcomes)["by_group"]

    assert {name: rates["queries"] for name, rates in by_group.items()} == {"camera": 1, "phone": 2}
    assert by_group["phone"]["recall_at_1"] == 0.5
    assert by_group["camera"]["recall_at_1"] == 1.0
    assert by_group["camera"]["false_accept_rate"] is None


def test_each_rate_lies_in_its_interval() -> None:
    outcomes = [outcome((CAT,), answer(CAT if number % 5 else DOG)) for number in range(40)]

    metrics = measured(outcomes)

    for rate in ("recall_at_1", "wrong_accept_rate"):
        low, high = metrics["intervals"][rate]
        value = metrics[rate]  # type: ignore[literal-required]
        assert 0 < low < value < high < 1
    assert "false_accept_rate" not in metrics["intervals"]


def test_time_is_the_mean_without_the_left_out_scans() -> None:
    slow = answer(milliseconds=1000.0)
    outcomes = [
        outcome((CAT,), answer(CAT, milliseconds=20.0), left_out=slow),
        outcome((), answer(milliseconds=40.0)),
    ]

    assert measured(outcomes)["milliseconds_per_query"] == 30.0


def test_what_no_photo_can_tell_is_null() -> None:
    only_answered = measured([outcome((CAT,), answer(CAT, shortlist=None), left_out=answer())])
    only_unanswered = measured([outcome((), answer())])

    assert only_answered["recall_at_precision"] is None
    assert only_answered["covered_recall_at_1"] is None
    assert only_answered["false_accept_rate"] is None
    assert only_answered["shortlist_recall"] is None
    assert only_unanswered["recall_at_1"] is None
    assert only_unanswered["wrong_accept_rate"] is None
    assert only_unanswered["left_out_false_accept_rate"] is None
    json.dumps([only_answered, only_unanswered], allow_nan=False)


class FakeGallery:
    """Recognises a photo by its name, as long as the reference is there."""

    def __init__(self, *references: Path) -> None:
        self.skipped: Counter[str] = Counter()
        self.references = set(references)

    def __len__(self) -> int:
        return len(self.references)

    def __contains__(self, reference: Path) -> bool:
        return reference in self.references

    def scan(self, photo: Path) -> Answer:
        return answer(*(path for path in sorted(self.references) if path.stem in photo.stem))

    def recognise(self, pixels: Pixels) -> Answer:
        return answer()

    def across(
        self, work: Callable[[Any, Any], Any], items: Sequence[Any], description: str
    ) -> Iterator[Any]:
        return (work(self, item) for item in items)

    @contextmanager
    def without(self, references: Collection[Path]) -> Iterator[None]:
        self.references -= set(references)
        yield
        self.references |= set(references)


def test_photos_with_an_answer_are_scanned_again_without_it_and_covered(tmp_path: Path) -> None:
    gallery = FakeGallery(CAT, DOG)
    photos = [tmp_path / "queries/phone/cat and dog.jpg", tmp_path / "queries/bird.jpg"]
    for photo in photos:
        photo.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(photo), np.full((60, 80, 3), 128, np.uint8))
    pairs = (Pair(photos[0], (CAT,)), Pair(photos[1], ()))

    first, second = scan_all(gallery, "animals", AnsweredQueries(tmp_path, (CAT, DOG), pairs))

    assert first.answer.references == (CAT, DOG)
    assert first.left_out is not None
    assert first.left_out.references == (DOG,)
    assert first.covered is not None
    assert second.left_out is second.covered is None
    assert (first.group, second.group) == ("phone", "")
    assert len(gallery) == 2


def test_failures_say_what_went_wrong() -> None:
    outcomes = [
        outcome((CAT,), answer(CAT), left_out=answer(DOG), covered=answer()),
        outcome((CAT,), answer(), left_out=answer(), covered=answer()),
        outcome((CAT,), answer(CAT, DOG), left_out=answer(), covered=answer(CAT)),
        outcome((), answer(COW)),
    ]

    problems = [failure.problem for failure in find_failures(outcomes)]

    assert problems == [
        "missed",
        "wrong answer",
        "not registered, yet answered",
        "left out, yet answered",
        "missed when covered",
    ]


@pytest.mark.parametrize("missing", ["nowhere", "bundle"])
def test_a_missing_folder_is_one_sentence(tmp_path: Path, missing: str) -> None:
    arguments = ["--output", str(tmp_path / "report.json"), "--bundle", str(tmp_path / "bundle")]
    dataset = tmp_path / "data"
    for folder in ("references", "queries"):
        (dataset / folder).mkdir(parents=True)
    (dataset / "pairs.csv").write_text("query,references\n")
    wanted = tmp_path / "nowhere" if missing == "nowhere" else dataset

    result = CliRunner().invoke(app, ["recognition", "--dataset", str(wanted), *arguments])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert str(tmp_path / missing) in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "report.json").exists()


def test_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent / "covers" / "references").mkdir(parents=True)
        (tmp_path / parent / "covers" / "pairs.csv").write_text("query,references\n")
    datasets = [f"--dataset={tmp_path / parent / 'covers'}" for parent in ("a", "b")]

    result = CliRunner().invoke(app, ["recognition", *datasets, "--output", str(tmp_path / "x")])

    assert result.exit_code == 1
    assert "'covers'" in result.stderr


def test_the_demo_wants_both_folders(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--pictures", str(tmp_path)])

    assert result.exit_code == 1
    assert "--photos" in result.stderr


def test_photos_are_drawn_on_and_laid_out() -> None:
    grey = np.full((60, 80, 3), 128, np.uint8)

    photo = annotated(grey, [(QUAD, "cat")], GREEN)
    sheet = contact_sheet([titled(photo, "cat", GREEN, 100)] * 3, columns=2)

    assert photo.getpixel((40, 6)) == GREEN
    assert sheet.width == 200
    assert sheet.height == 2 * (sheet.height // 2)
