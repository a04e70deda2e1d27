"""The answers that were not what they should be, and a page that shows them and says why."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image
from rich.progress import track

from benchmarks.metrics import Answer, Found, Outcome, Picture, Verified
from benchmarks.pictures import GREEN, GREY, RED, annotated, contact_sheet, titled
from benchmarks.rendered import Viewed
from indexing.recognition import WORKING_SIDE
from training.datasets import read_picture

CELL = 420
PAGE = "index.html"
BELOW_THRESHOLD = "the evidence is too weak to pass the threshold"
NOT_PLAUSIBLE = "the correspondences agree on a shape that no camera could see of a flat thing"
NOT_TOLD = "the server does not tell what it compared"
UNFOUND = "not in the shortlist: too few of its features are among the photo's nearest"
UNVERIFIED = "too few correspondences agree on one plane, or none were tried at that rank"
OUTDONE = "another reference stands at the same place with more evidence"


class Problem(StrEnum):
    """What was wrong with an answer."""

    MISSED = "missed"
    WRONG = "wrong answer"
    UNREGISTERED = "not registered, yet answered"
    LEFT_OUT = "left out, yet answered"
    COVERED = "missed when covered"
    STRANGER = "rendered, not registered, yet answered"


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that was not what it should be; ``expected`` is what the photo shows.

    ``picture`` is the photo as it was scanned.
    """

    problem: Problem
    photo: Path
    expected: tuple[Path, ...]
    answer: Answer
    picture: Picture


@dataclass(frozen=True, slots=True)
class Remark:
    """What there is to say about one reference of a failure: its ``role`` there, figures and why."""

    role: str
    reference: Path
    probability: float | None
    evidence: str
    why: str


def find_failures(outcomes: Sequence[Outcome]) -> list[Failure]:
    """The wrong answers: with the whole gallery, then with what is shown left out, then covered.

    Of the covered photos only those that were right before.
    """
    whole = [_failure(p, each, each.answer) for each in outcomes if (p := _problem(each))]
    left_out = [
        _failure(Problem.LEFT_OUT, each, each.left_out)
        for each in outcomes
        if each.left_out and each.left_out.found
    ]
    covered = [
        Failure(Problem.COVERED, each.photo, each.expected, c.answer, c.picture)
        for each in outcomes
        if (c := each.covered) and set(each.expected) - {*c.answer.references, *each.missed}
    ]
    return whole + left_out + covered


def stranger_failures(views: Sequence[Viewed]) -> list[Failure]:
    """The rendered photos of unregistered pictures that were answered."""
    return [
        Failure(Problem.STRANGER, r.picture, (), view.answer, r)
        for view in views
        if view.answer.found and (r := view.rendering)
    ]


def explained(failure: Failure, registered: Container[Path]) -> list[Remark]:
    """Why each reference was missed or answered."""
    answer = failure.answer
    left_out = failure.problem is Problem.LEFT_OUT
    missed = [path for path in failure.expected if path not in answer.references]
    remarks = [] if left_out else [_missed(path, answer, registered) for path in missed]
    return remarks + [_answered(found, failure) for found in answer.found]


def write_page(failures: Sequence[Failure], registered: Container[Path], folder: Path) -> None:
    """Writes ``index.html`` into a folder, with a picture of each failure and what is known of it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, failure in enumerate(track(failures, "Drawing the failures"), start=1):
        name = f"{number:03}-{failure.photo.stem}.jpg"
        _sheet(failure).save(folder / name, quality=88)
        photo = f"{failure.photo.parent.name}/{failure.photo.name}"
        entries.append((name, photo, failure.problem, explained(failure, registered)))
    pages = Environment(loader=PackageLoader("benchmarks", "."), autoescape=select_autoescape())
    page = pages.get_template("failures.html").render(failures=entries)
    (folder / PAGE).write_text(page, encoding="utf-8")


def _failure(problem: Problem, outcome: Outcome, answer: Answer) -> Failure:
    picture = partial(read_picture, outcome.photo, WORKING_SIDE)
    return Failure(problem, outcome.photo, outcome.expected, answer, picture)


def _problem(outcome: Outcome) -> Problem | None:
    if outcome.wrong:
        return Problem.WRONG if outcome.expected else Problem.UNREGISTERED
    return Problem.MISSED if outcome.missed else None


def _missed(path: Path, answer: Answer, registered: Container[Path]) -> Remark:
    candidate = answer.candidate(path)
    probability = candidate.probability if candidate else None
    evidence, why = _why_missed(path, answer, candidate)
    if path not in registered:
        why = "it is not in the gallery: its picture was refused"
    return Remark("expected", path, probability, evidence, why)


def _why_missed(path: Path, answer: Answer, candidate: Verified | None) -> tuple[str, str]:
    if answer.shortlist is None:
        return "", NOT_TOLD
    if path not in answer.shortlist:
        return "", UNFOUND
    rank = f"at rank {answer.shortlist.index(path) + 1}"
    if candidate is None:
        return rank, UNVERIFIED
    evidence = f"{rank}, {_figures(candidate)}"
    if not candidate.plausible:
        return evidence, NOT_PLAUSIBLE
    return evidence, OUTDONE if candidate.beyond else BELOW_THRESHOLD


def _answered(found: Found, failure: Failure) -> Remark:
    candidate = failure.answer.candidate(found.reference)
    evidence = _figures(candidate) if candidate else ""
    right = found.reference in failure.expected
    why = "as it should be" if right else _why_answered(candidate)
    return Remark("got", found.reference, found.probability, evidence, why)


def _why_answered(candidate: Verified | None) -> str:
    if candidate is None:
        return NOT_TOLD
    return (
        f"{candidate.inliers} correspondences agree on one plane over {candidate.coverage:.0%} of "
        "it: something there looks like a part of the photo"
    )


def _figures(candidate: Verified) -> str:
    return (
        f"{candidate.inliers} inliers of {candidate.matches} matches, "
        f"over {candidate.coverage:.0%} of it"
    )


def _sheet(failure: Failure) -> Image.Image:
    """The photo with what was found, beside what it shows and what was answered."""
    found = [(each.quad, each.reference.stem) for each in failure.answer.found]
    near = [
        (candidate.quad, "candidate")
        for path in failure.expected
        if (candidate := failure.answer.candidate(path)) and not failure.answer.found
    ]
    candidates = annotated(failure.picture(), near, GREY)
    photo = annotated(np.asarray(candidates), found, RED)
    cells = [titled(photo, failure.problem, RED, CELL), *_reference_cells(failure)]
    return contact_sheet(cells, len(cells))


def _reference_cells(failure: Failure) -> Iterator[Image.Image]:
    for path in failure.expected:
        yield _reference_cell(path, "expected", GREEN)
    for path in failure.answer.references:
        if path not in failure.expected:
            yield _reference_cell(path, "got", GREY)


def _reference_cell(path: Path, word: str, colour: tuple[int, int, int]) -> Image.Image:
    # A reference that fills the gallery up may be rendered, and no file.
    blank = np.full((3, 4, 3), 255, np.uint8)
    picture = read_picture(path, WORKING_SIDE) if path.is_file() else blank
    return titled(Image.fromarray(picture), f"{word}: {path.stem}", colour, CELL)
