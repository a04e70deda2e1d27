import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from benchmarks import text
from benchmarks.__main__ import app
from benchmarks.errors import BenchmarkError
from benchmarks.metrics import Answer, Found, Verified
from benchmarks.text import (
    ReadPhoto,
    TextIndex,
    drawn,
    measured_text,
    preferred,
    tie_breaks,
    tied,
    words_of,
)
from indexing.bundle import DEFAULT_BUNDLE
from indexing.image import Pixels
from training.datasets import Pair

OCEAN, FOREST, DESERT, PLAIN = (
    Path(f"{name}.jpg") for name in ("ocean", "forest", "desert", "plain")
)
QUAD = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
TEXTS = {
    OCEAN: ("captain", "marlowe", "edition"),
    FOREST: ("captain", "thornfield", "edition"),
    DESERT: ("sandstorm", "edition"),
    PLAIN: (),
}


def verified(reference: Path, log_odds: float, plausible: bool = True) -> Verified:
    return Verified(reference, log_odds, 0.5, 9, 20, 0.5, plausible, log_odds > 0, QUAD)


def answer(*candidates: Verified) -> Answer:
    found = tuple(Found(each.reference, 0.9, QUAD) for each in candidates[:1] if each.beyond)
    return Answer(found, (), 10.0, candidates, cpu=8.0)


def photo(expected: tuple[Path, ...], words: tuple[str, ...], *candidates: Verified) -> ReadPhoto:
    similarities = TextIndex(TEXTS).similarities(words)
    return ReadPhoto(expected, words, 200.0, similarities, answer(*candidates))


def test_words_have_three_letters_and_no_case() -> None:
    lines = ["THE RETURN of 2049, No. 7", "L’Été_À-la carte", "ＦＵＬＬ width"]

    assert words_of(lines) == ("the", "return", "été", "carte", "full", "width")


def test_text_finds_its_picture_in_spite_of_misread_letters() -> None:
    index = TextIndex(TEXTS)

    assert next(iter(index.similarities(("captainthornfleld",)))) == FOREST
    assert next(iter(index.similarities(("sandst0rm", "andstorm")))) == DESERT


def test_similarity_is_one_for_the_same_words_and_falls() -> None:
    similarities = TextIndex(TEXTS).similarities(TEXTS[OCEAN])

    assert list(similarities) == [OCEAN, FOREST, DESERT]
    assert similarities[OCEAN] == pytest.approx(1.0)
    assert similarities[FOREST] > similarities[DESERT] > 0


@pytest.mark.parametrize("words", [(), ("zzyzx",)])
def test_words_that_nothing_bears_are_similar_to_nothing(words: tuple[str, ...]) -> None:
    assert TextIndex(TEXTS).similarities(words) == {}


def test_a_word_is_rare_by_how_many_pictures_bear_it() -> None:
    index = TextIndex(TEXTS)

    assert index.shares_rare_word(("edition", "thornfield"), FOREST)
    assert not index.shares_rare_word(("edition", "captain"), FOREST)
    assert not index.shares_rare_word(("thornfield",), OCEAN)


def test_a_gallery_without_words_is_one_sentence() -> None:
    with pytest.raises(BenchmarkError, match="No reference bears a readable word"):
        TextIndex({PLAIN: ()})


def test_a_tie_is_what_is_near_the_best_and_plausible() -> None:
    candidates = answer(
        verified(OCEAN, 5.0),
        verified(FOREST, 4.0),
        verified(DESERT, 2.9),
        verified(PLAIN, 6, False),
    )

    assert tied(candidates, 1.0) == (OCEAN, FOREST)
    assert tied(candidates, float("inf")) == (OCEAN, FOREST, DESERT)
    assert tied(answer(), 1.0) == ()


def test_text_chooses_and_without_any_the_order_stands() -> None:
    assert preferred((OCEAN, FOREST), {DESERT: 0.9, FOREST: 0.2, OCEAN: 0.1}) == FOREST
    assert preferred((OCEAN, FOREST), {DESERT: 0.9}) == OCEAN


def test_tie_breaks_count_what_text_changes() -> None:
    rivals = verified(OCEAN, 5.0), verified(FOREST, 4.5)
    photos = [
        photo((FOREST,), ("thornfield",), *rivals),
        photo((OCEAN,), ("thornfield",), *rivals),
        photo((OCEAN,), ("marlowe",), *rivals),
        photo((DESERT,), ("sandstorm",), *rivals),
        photo((OCEAN, FOREST), ("thornfield",), *rivals),
        photo((OCEAN,), ("thornfield",), verified(OCEAN, 5.0), verified(FOREST, 1.0)),
    ]

    assert tie_breaks(photos, 1.0) == {
        "ties": 4,
        "right": 2,
        "right_by_text": 2,
        "mended": 1,
        "broken": 1,
    }


def test_metrics_are_about_what_is_registered() -> None:
    photos = [
        photo((OCEAN,), ("marlowe",), verified(OCEAN, 5.0)),
        photo((FOREST,), ("captain", "marlowe"), verified(OCEAN, -5.0)),
        photo((DESERT,), ("sandstorm",)),
        photo((PLAIN,), ()),
        photo((), ("captain", "marlowe"), verified(OCEAN, 5.0)),
    ]

    metrics = measured_text(TextIndex(TEXTS), list(TEXTS), photos)

    assert metrics["references_with_a_word"] == 0.75
    assert metrics["references_with_three_words"] == 0.5
    assert metrics["photos"] == 4
    assert metrics["photos_with_a_word"] == 0.75
    assert metrics["rare_word_shared"] == 0.5
    assert metrics["recall"] == {"1": 0.5, "5": 0.75}
    assert (metrics["missed"], metrics["missed_but_first_by_text"]) == (3, 1)
    assert metrics["reading_milliseconds"] == 200.0
    assert metrics["pipeline_milliseconds"] == 8.0


def test_a_draw_of_photos_is_the_same_every_time() -> None:
    pairs = [Pair(Path(f"{number}.jpg"), ()) for number in range(50)]

    assert drawn(pairs, 10) == drawn(pairs, 10)
    assert len(set(drawn(pairs, 10))) == 10
    assert drawn(pairs, None) == drawn(pairs, 99) == pairs


@pytest.mark.parametrize("library", ["rapidocr", "onnxruntime"])
def test_without_the_library_one_sentence_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    arguments = ["text", "--dataset", str(tmp_path), "--output", str(tmp_path / "report.json")]

    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "pip install --group text" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_library_reads_upright_and_upside_down() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("rapidocr")
    image = Image.new("RGB", (400, 120), "white")
    ImageDraw.Draw(image).text((20, 30), "Strawberry", "black", ImageFont.load_default(60))
    reader = text.Reader()

    assert reader.read(np.asarray(image)) == ("strawberry",)
    assert reader.read(np.asarray(image.rotate(180))) == ("strawberry",)


class PixelReader:
    """Reads a picture's red level as its words."""

    def read(self, pixels: Pixels) -> tuple[str, ...]:
        return ("marlowe", "captain") if pixels[..., 0].max() < 128 else ("thornfield", "captain")


def test_a_run_reads_scans_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("references", "queries"):
        (tmp_path / "covers" / folder).mkdir(parents=True)
    for number, red in enumerate((1, 255)):
        picture = np.random.default_rng(number).integers(0, 256, (24, 24, 3)).astype(np.uint8)
        picture[..., 0] = red
        image = Image.fromarray(picture).resize((360, 360), Image.Resampling.NEAREST)
        for folder in ("references", "queries"):
            image.save(tmp_path / "covers" / folder / f"{number}.png")
    rows = [f"queries/{number}.png,references/{number}.png\n" for number in range(2)]
    (tmp_path / "covers" / "pairs.csv").write_text("query,references\n" + "".join(rows))
    monkeypatch.setattr(text, "Reader", PixelReader)

    text.run([tmp_path / "covers"], [], DEFAULT_BUNDLE, tmp_path / "out" / "report.json", None)

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    covers = report["datasets"]["covers"]
    assert report["gallery_size"] == 2
    assert covers["photos"] == 2
    assert covers["recall"] == {"1": 1.0, "5": 1.0}
    assert covers["pipeline_milliseconds"] > 0
