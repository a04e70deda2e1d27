"""What the recognition benchmark renders, covers and writes, in small galleries of drawn posters."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.artwork import draw_collection
from benchmarks.covering import HIDDEN, MIDDLE, CoveredPhoto, covered_photos, partly_hidden
from benchmarks.failures import Failure, Problem, explained, write_page
from benchmarks.galleries import LocalGallery
from benchmarks.metrics import Answer, Found, Outcome, Verified
from benchmarks.rendered import (
    Rendering,
    Viewed,
    fair_strangers,
    held_out,
    scan_strangers,
    scan_views,
    stranger_rates,
    view_rates,
)
from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.segment import IndexedReference
from training.datasets import read_picture

REGISTERED, UNREGISTERED = 8, 6
CAT, DOG = Path("cat.jpg"), Path("dog.jpg")
QUAD = np.array([[0.2, 0.2], [0.8, 0.25], [0.75, 0.8], [0.2, 0.7]], np.float32)


def save(file: Path, picture: Pixels) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), picture[:, :, ::-1])
    return file


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("posters")
    drawn = draw_collection("poster", REGISTERED, seed=11)
    drawn += draw_collection("painting", UNREGISTERED, seed=11)
    return [save(folder / art.kind / f"{art.name}.png", art.picture) for art in drawn]


@pytest.fixture(scope="module")
def gallery(posters: Sequence[Path]) -> LocalGallery:
    return LocalGallery(load_bundle(DEFAULT_BUNDLE), posters[:REGISTERED])


def texture(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (300, 400, 3), dtype=np.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_a_tenth_to_a_third_of_the_quad_is_hidden(seed: int) -> None:
    photo = texture(seed)
    original = photo.copy()

    covered = partly_hidden(photo, QUAD, np.random.default_rng(seed))

    inside = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, (QUAD * [400, 300]).round().astype(np.int32), 1)
    hidden = (covered != original).any(axis=2)[inside.astype(bool)].mean()
    assert HIDDEN[0] - 0.01 <= hidden <= HIDDEN[1] + 0.01
    assert np.array_equal(photo, original)


def test_the_same_seed_hides_the_same(tmp_path: Path) -> None:
    photo = save(tmp_path / "photo.png", texture(0))

    first, second, other = (CoveredPhoto(photo, (QUAD,), (seed,))() for seed in (1, 1, 2))

    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_what_was_found_is_covered_where_it_was_and_else_the_middle() -> None:
    right, wrong = Found(CAT, 0.9, QUAD), Found(DOG, 0.9, QUAD + 0.1)
    outcomes = [
        Outcome(Path("1.jpg"), (CAT,), Answer((wrong, right), (), 1.0)),
        Outcome(Path("2.jpg"), (CAT,), Answer((wrong,), (), 1.0)),
        Outcome(Path("3.jpg"), (), Answer((wrong,), (), 1.0)),
    ]

    found, missed, unregistered = covered_photos(outcomes)

    assert found is not None
    assert missed is not None
    assert unregistered is None
    assert np.array_equal(found.quads, [QUAD])
    assert np.array_equal(missed.quads, [MIDDLE])


def viewed(quad: np.ndarray, *found: Found) -> Viewed:
    return Viewed(Rendering(CAT, (), (0,)), quad, (400, 300), Answer(found, (), 1.0))


def test_the_corner_error_is_in_shares_of_the_side() -> None:
    square = np.array([[100, 100], [200, 100], [200, 200], [100, 200]], np.float32)
    shares = (square + 0.5) / [400, 300]
    aside = ((square + 0.5 + [3, 4]) / [400, 300]).astype(np.float32)

    assert viewed(square, Found(CAT, 0.9, shares)).corner_error == pytest.approx(0, abs=1e-6)
    assert viewed(square, Found(CAT, 0.9, aside)).corner_error == pytest.approx(0.05, abs=1e-5)
    assert viewed(square, Found(DOG, 0.9, shares)).corner_error is None
    assert viewed(square).corner_error is None


def test_views_of_registered_posters_are_found_where_they_are(
    gallery: LocalGallery, posters: Sequence[Path]
) -> None:
    rates = view_rates(scan_views(gallery, "posters", posters[:REGISTERED], each=2))

    assert rates is not None
    assert rates["views"] == 2 * REGISTERED
    assert rates["recall"] >= 0.6
    assert rates["quad_corner_error"] is not None
    assert 0 < rates["quad_corner_error"]["median"] < 2
    assert rates["quad_corner_error"]["percentile_90"] >= rates["quad_corner_error"]["median"]
    assert view_rates([]) is None


def test_a_picture_of_the_gallery_is_no_fair_stranger(
    gallery: LocalGallery, posters: Sequence[Path], tmp_path: Path
) -> None:
    again = save(tmp_path / "again.jpg", read_picture(posters[0]))
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"\x89PNG torn")

    strangers = fair_strangers(gallery, [again, *posters[REGISTERED:], torn])

    assert again not in strangers.fair
    assert strangers.related == 1 + UNREGISTERED - len(strangers.fair)
    assert len(strangers.fair) >= UNREGISTERED // 2
    assert strangers.unreadable == 1


def test_each_accepted_stranger_is_counted_and_the_worst_come_first(
    gallery: LocalGallery, posters: Sequence[Path]
) -> None:
    strangers = fair_strangers(gallery, posters[REGISTERED:])
    views = scan_strangers(gallery, strangers.fair, 8)
    accepted = Answer((Found(CAT, 0.99, QUAD),), (), 1.0)
    views[5] = replace(views[5], answer=accepted)

    rates = stranger_rates(strangers, views)

    others = sum(bool(view.answer.found) for view in views) - 1
    assert rates["photos"] == 8
    assert rates["false_accepts"] == 1 + others
    assert rates["interval"][0] < rates["false_accept_rate"] < rates["interval"][1]
    assert rates["worst"][0]["accepted"]
    assert (5, "cat.jpg") in [(each["number"], each["reference"]) for each in rates["worst"]]


def test_processes_answer_as_one_does(gallery: LocalGallery, posters: Sequence[Path]) -> None:
    pictures = [partial(read_picture, path) for path in posters]

    across = list(gallery.across(_recognise, pictures, "both"))

    alone = [gallery.recognise(picture()) for picture in pictures]
    assert [each.references for each in across] == [each.references for each in alone]
    assert [len(each.references) for each in alone[:REGISTERED]] == [1] * REGISTERED
    assert list(gallery.across(_recognise, [], "none")) == []


def _recognise(gallery: LocalGallery, picture: partial[Pixels]) -> Answer:
    return gallery.recognise(picture())


def test_a_share_is_held_out_the_same_each_time() -> None:
    pictures = [Path(f"{number}.jpg") for number in range(40)]

    chosen = held_out(pictures, 0.1)

    assert len(set(chosen)) == 4
    assert chosen == held_out(pictures, 0.1)
    assert held_out(pictures[:3], 0.1)


def candidate(reference: Path, *, plausible: bool = True, beyond: bool = False) -> Verified:
    return Verified(reference, 0.0, 0.5, 9, 20, 0.5, plausible, beyond, QUAD)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer((), None, 1.0), "does not tell"),
        (Answer((), (DOG,), 1.0, ()), "not in the shortlist"),
        (Answer((), (DOG, CAT), 1.0, ()), "at rank 2"),
        (Answer((), (CAT,), 1.0, (candidate(CAT),)), "9 inliers of 20 matches"),
        (Answer((), (CAT,), 1.0, (candidate(CAT),)), "too weak"),
        (Answer((), (CAT,), 1.0, (candidate(CAT, plausible=False),)), "no camera"),
        (Answer((), (CAT,), 1.0, (candidate(CAT, beyond=True),)), "same place"),
    ],
)
def test_a_miss_is_explained(answer: Answer, says: str) -> None:
    failure = Failure(Problem.MISSED, Path("photo.jpg"), (CAT,), answer, partial(texture, 0))

    (remark,) = explained(failure, [CAT, DOG])

    assert remark.role == "expected"
    assert says in f"{remark.evidence}: {remark.why}"


def test_a_reference_that_was_refused_is_why_it_was_missed() -> None:
    answer = Answer((), (), 1.0, ())
    failure = Failure(Problem.MISSED, Path("photo.jpg"), (CAT,), answer, partial(texture, 0))

    (remark,) = explained(failure, [])

    assert "not in the gallery" in remark.why


def test_what_was_left_out_is_not_said_to_be_missed() -> None:
    answer = Answer((Found(DOG, 0.9, QUAD),), (DOG,), 1.0, (candidate(DOG),))
    failure = Failure(Problem.LEFT_OUT, Path("photo.jpg"), (CAT,), answer, partial(texture, 0))

    (remark,) = explained(failure, [DOG])

    assert (remark.role, remark.reference) == ("got", DOG)
    assert "9 correspondences" in remark.why


def test_the_page_shows_each_failure_and_escapes_names(tmp_path: Path) -> None:
    picture = save(tmp_path / "<b> & c.png", texture(1))
    answer = Answer((), (), 1.0, ())
    failures = [
        Failure(problem, picture, (picture,), answer, partial(texture, 0)) for problem in Problem
    ]

    write_page(failures, [picture], tmp_path / "page")

    page = (tmp_path / "page/index.html").read_text()
    assert page.count("<section>") == len(Problem)
    assert "&lt;b&gt; &amp; c.png" in page
    assert "<b>" not in page
    sheets = list((tmp_path / "page").glob("*.jpg"))
    assert len(sheets) == len(Problem)
    assert cv2.imread(str(sheets[0])).std() > 10


@pytest.fixture(scope="module")
def dataset(posters: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "posters"
    rows = ["query,references"]
    for number, poster in enumerate(posters[:4]):
        picture = read_picture(poster)
        save(root / "references" / f"{number}.png", picture)
        phone = "one" if number % 2 else "two"
        photo = cv2.copyMakeBorder(picture, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=(9, 90, 60))
        save(root / "queries" / phone / f"{number}.png", np.asarray(photo, np.uint8))
        rows.append(f"queries/{phone}/{number}.png,references/{number}.png")
    save(root / "queries/two/stranger.png", read_picture(posters[REGISTERED - 1]))
    rows.append("queries/two/stranger.png,")
    (root / "pairs.csv").write_text("\n".join(rows) + "\n")
    return root


def test_the_command_reports_all_of_it(
    dataset: Path, posters: Sequence[Path], tmp_path: Path
) -> None:
    arguments = [
        "recognition",
        f"--dataset={dataset}",
        f"--distractors={posters[-1].parent}",
        f"--output={tmp_path / 'report.json'}",
        f"--failures={tmp_path / 'failures'}",
        f"--plots={tmp_path / 'plots'}",
        "--views=1",
        "--rendered=4",
    ]

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    found = report["datasets"]["posters"]
    assert found["queries"] == report["overall"]["queries"] == 5
    assert found["recall_at_1"] == 1.0
    assert found["shortlist_recall"]["1"] == 1.0
    assert 0.2 < found["intervals"]["recall_at_1"][0] < found["intervals"]["recall_at_1"][1] == 1.0
    assert {name: each["queries"] for name, each in found["by_group"].items()} == {
        "one": 2,
        "two": 3,
    }
    assert found["recall_at_precision"].keys() == {"0.9", "0.999"}
    assert 0 <= found["covered_recall_at_1"] <= 1
    assert found["rendered_views"]["views"] == 4
    costs = found["cpu_milliseconds"]
    assert costs["registered"]["scans"] == 4
    assert costs["unregistered"]["scans"] == 5
    assert all(cost["total"] > 0 and cost["stages"]["rest"] >= 0 for cost in costs.values())
    assert report["calibration"]["real"]["right"] >= 4
    assert report["rendered"]["photos"] == 4
    assert (tmp_path / "failures/index.html").is_file()
    assert (tmp_path / "plots/reliability.png").is_file()
    assert "100.0 % (39.8–100.0)" in result.output


def test_a_gallery_is_filled_with_references_that_are_none_of_the_datasets(
    posters: Sequence[Path],
) -> None:
    bundle = load_bundle(DEFAULT_BUNDLE)
    extractor = FeatureExtractor(bundle)
    filling = [
        IndexedReference(f"filler-{n}", "", {}, (extractor.reference(read_picture(path)),))
        for n, path in enumerate(posters[REGISTERED:])
    ]

    gallery = LocalGallery(bundle, posters[:REGISTERED], filling)

    assert len(gallery) == REGISTERED + UNREGISTERED
    assert posters[0] in gallery
    assert Path("filler-0") not in gallery
    assert gallery.scan(posters[0]).references == (posters[0],)
    assert gallery.scan(posters[-1]).references == (Path(f"filler-{UNREGISTERED - 1}"),)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rendered=3"], "--strangers"),
        (["--gallery-size=2"], "4 references"),
        (["--gallery-size=9", "--grpc=localhost:1", "--operator-key=x"], "this process"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    dataset: Path, tmp_path: Path, options: Sequence[str], says: str
) -> None:
    arguments = ["recognition", f"--dataset={dataset}", f"--output={tmp_path / 'x.json'}"]

    result = CliRunner().invoke(app, [*arguments, *options])

    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
