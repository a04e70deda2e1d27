"""The text benchmark: would the words on things help to recognise them?

The words of every reference and photo are read by an OCR library and compared; then they break the
ties that the pictures leave. Nothing of it is part of the pipeline.
"""

import random
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.errors import BenchmarkError
from benchmarks.galleries import LocalGallery
from benchmarks.json_file import write_json
from benchmarks.metrics import Answer
from benchmarks.queries import apart_from, read_queries
from indexing.bundle import load_bundle
from indexing.image import Pixels
from indexing.recognition import WORKING_SIDE
from training.datasets import Pair, find_pictures, own_references, read_picture

SEED = 2024
RANKS = (1, 5)
# A word is rare when at most this share of the gallery's pictures bears it.
RARE_SHARE = 0.01
# Differences in log-odds up to which two candidates are a tie; with the last one all are.
MARGINS = {"1": 1.0, "2": 2.0, "4": 4.0, "any": float("inf")}
MISSING = (
    "Reading words needs the dependency group 'text' of pyproject.toml: install it with "
    "'python -m pip install --group text' (pip 25.1 or later)."
)

# Shorter ones and numbers are mostly misread texture.
WORD = re.compile(r"[^\W\d_]{3,}")

Words = tuple[str, ...]

console = Console(highlight=False)


class Reader:
    """Reads the words in pictures with RapidOCR on one thread, by the models that its package brings.

    Raises BenchmarkError where the library is not installed.
    """

    def __init__(self) -> None:
        try:
            import onnxruntime  # noqa: F401  (RapidOCR looks for it only at the first picture.)
            from rapidocr import RapidOCR
        except ImportError as error:
            raise BenchmarkError(MISSING) from error
        threads = {
            f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")
        }
        self._engine: Callable[[Pixels], Any] = RapidOCR(
            params={"Global.log_level": "error", **threads}
        )

    def read(self, pixels: Pixels) -> Words:
        """The words in a picture, RGB uint8 [height, width, 3]; see ``words_of``."""
        found = self._engine(np.ascontiguousarray(pixels[..., ::-1]))
        return words_of(found.txts or ())


class TextIndex:
    """The words of a gallery's pictures, by the pictures' paths.

    Compared by tf-idf (Salton and Buckley, 1988) over pieces of three and four letters, so that a
    letter misread or a space lost spoils only a part of a word. Raises BenchmarkError where no
    picture bears a word.
    """

    def __init__(self, texts: Mapping[Path, Words]) -> None:
        if not any(texts.values()):
            raise BenchmarkError(
                "No reference bears a readable word, so there is nothing to measure."
            )
        self.texts = texts
        self._paths = tuple(texts)
        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, dtype=np.float32
        )
        self._vectors = self._vectorizer.fit_transform(" ".join(words) for words in texts.values())
        self._bearers = Counter(word for words in texts.values() for word in set(words))

    def similarities(self, words: Words) -> dict[Path, float]:
        """The cosine, from 0 to 1, of the pictures that have something in common with ``words``.

        The most similar comes first.
        """
        query = self._vectorizer.transform([" ".join(words)])
        cosines = (self._vectors @ query.T).toarray().ravel()
        order = np.argsort(-cosines, kind="stable")
        return {self._paths[row]: float(cosines[row]) for row in order if cosines[row] > 0}

    def shares_rare_word(self, words: Words, picture: Path) -> bool:
        """Whether a picture bears one of ``words`` that few others bear."""
        limit = max(1, int(RARE_SHARE * len(self.texts)))
        shared = set(words).intersection(self.texts[picture])
        return any(self._bearers[word] <= limit for word in shared)


@dataclass(frozen=True, slots=True)
class ReadPhoto:
    """A photo that was read and scanned, and what it shows.

    ``similarities`` is the TextIndex's answer to its words; ``milliseconds`` is what the reading
    took of one processor core.
    """

    expected: tuple[Path, ...]
    words: Words
    milliseconds: float
    similarities: Mapping[Path, float]
    answer: Answer

    @property
    def ranking(self) -> tuple[Path, ...]:
        """The pictures whose words have something in common with the photo's, the best first."""
        return tuple(self.similarities)


class TieBreaks(TypedDict):
    """What text makes of the photos with a tie whose candidates are not all right.

    ``right`` counts those where the pictures' first is right, ``right_by_text`` those where the
    tie's most similar text is; ``mended`` and ``broken`` are the ones that text changes.
    """

    ties: int
    right: int
    right_by_text: int
    mended: int
    broken: int


class TextMetrics(TypedDict):
    """A dataset's results. Shares are None where there is nothing to count.

    ``photos`` counts those that show something registered, which all that follows is about, but
    for the milliseconds, medians of one core over all photos. ``recall`` is of text alone among
    all the gallery's texts; ``missed`` counts what the pipeline did not accept, and
    ``missed_but_first_by_text`` those of it that text ranks first.
    """

    references: int
    references_with_a_word: float | None
    references_with_three_words: float | None
    photos: int
    photos_with_a_word: float | None
    rare_word_shared: float | None
    recall: dict[str, float | None]
    missed: int
    missed_but_first_by_text: int
    ties: dict[str, TieBreaks]
    reading_milliseconds: float | None
    pipeline_milliseconds: float | None


class Report(TypedDict):
    """What the benchmark writes."""

    gallery_size: int
    datasets: dict[str, TextMetrics]


def run(
    datasets: Sequence[Path],
    distractors: Sequence[Path],
    bundle: Path,
    output: Path,
    queries: int | None,
) -> None:
    """Reads and scans the datasets' photos, writes the report to ``output`` and prints it.

    ``queries`` limits each dataset to so many photos, drawn at random but always the same. Raises
    BenchmarkError, DatasetError, or the errors of the bundle.
    """
    reader = Reader()
    asked = read_queries(datasets)
    own = own_references(asked)
    pictures = [*own, *apart_from(find_pictures(distractors), own)]
    gallery = LocalGallery(load_bundle(bundle), pictures)
    index = TextIndex(_read_all(reader, pictures))
    measured = {}
    for name, each in asked.items():
        pairs = drawn(each.pairs, queries)
        photos = [_read_photo(reader, index, gallery, pair) for pair in track(pairs, name)]
        measured[name] = measured_text(index, each.references, photos)
    report = Report(gallery_size=len(pictures), datasets=measured)
    write_json(output, report)
    console.print(_table(report))


def words_of(lines: Iterable[str]) -> Words:
    """The words of three or more letters in lines of text, folded to lower case."""
    return tuple(
        word.casefold()
        for line in lines
        for word in WORD.findall(unicodedata.normalize("NFKC", line))
    )


def drawn(pairs: Sequence[Pair], count: int | None) -> Sequence[Pair]:
    """At most ``count`` pairs drawn at random, the same at every call; all without a count."""
    if count is None or count >= len(pairs):
        return pairs
    return random.Random(SEED).sample(pairs, count)


def tied(answer: Answer, margin: float) -> tuple[Path, ...]:
    """The candidates whose log-odds are within ``margin`` of the best one's, the best first."""
    plausible = [each for each in answer.verified or () if each.plausible]
    best = max((each.log_odds for each in plausible), default=0.0)
    return tuple(each.reference for each in plausible if each.log_odds >= best - margin)


def preferred(tie: Sequence[Path], similarities: Mapping[Path, float]) -> Path:
    """The candidate of a tie whose text is most similar; the first of several with the same."""
    return max(tie, key=lambda reference: similarities.get(reference, 0.0))


def tie_breaks(photos: Iterable[ReadPhoto], margin: float) -> TieBreaks:
    """Breaks the ties of all photos by text and counts what that gives."""
    outcomes = [
        (tie[0] in photo.expected, preferred(tie, photo.similarities) in photo.expected)
        for photo in photos
        if len(tie := tied(photo.answer, margin)) > 1 and not set(tie).issubset(photo.expected)
    ]
    counts = Counter(outcomes)
    return TieBreaks(
        ties=len(outcomes),
        right=sum(before for before, _ in outcomes),
        right_by_text=sum(after for _, after in outcomes),
        mended=counts[False, True],
        broken=counts[True, False],
    )


def measured_text(
    index: TextIndex, references: Collection[Path], photos: Sequence[ReadPhoto]
) -> TextMetrics:
    """The metrics of a dataset's references, all of the index, and of its photos."""
    answered = [photo for photo in photos if photo.expected]
    missed = _missed(answered)
    words = [index.texts[path] for path in references]
    return TextMetrics(
        references=len(references),
        references_with_a_word=_share(map(bool, words)),
        references_with_three_words=_share(len(each) >= 3 for each in words),
        photos=len(answered),
        photos_with_a_word=_share(bool(photo.words) for photo in answered),
        rare_word_shared=_share(
            any(index.shares_rare_word(photo.words, path) for path in photo.expected)
            for photo in answered
        ),
        recall={str(rank): _recall(answered, rank) for rank in RANKS},
        missed=len(missed),
        missed_but_first_by_text=sum(photo.ranking[:1] == (path,) for photo, path in missed),
        ties={name: tie_breaks(answered, margin) for name, margin in MARGINS.items()},
        reading_milliseconds=_median(photo.milliseconds for photo in photos),
        pipeline_milliseconds=_median(
            cpu for photo in photos if (cpu := photo.answer.cpu) is not None
        ),
    )


def _recall(photos: Iterable[ReadPhoto], rank: int) -> float | None:
    return _share(path in photo.ranking[:rank] for photo in photos for path in photo.expected)


def _missed(photos: Iterable[ReadPhoto]) -> list[tuple[ReadPhoto, Path]]:
    return [
        (photo, path)
        for photo in photos
        for path in photo.expected
        if path not in photo.answer.references
    ]


def _read_all(reader: Reader, pictures: Sequence[Path]) -> dict[Path, Words]:
    return {
        path: reader.read(read_picture(path, WORKING_SIDE))
        for path in track(pictures, "Reading the gallery")
    }


def _read_photo(reader: Reader, index: TextIndex, gallery: LocalGallery, pair: Pair) -> ReadPhoto:
    pixels = read_picture(pair.query, WORKING_SIDE)
    # Processor time, as the machine may have other work.
    start = time.process_time()
    words = reader.read(pixels)
    milliseconds = 1000 * (time.process_time() - start)
    expected = tuple(dict.fromkeys(pair.references))
    answer = gallery.recognise(pixels)
    return ReadPhoto(expected, words, milliseconds, index.similarities(words), answer)


def _share(hits: Iterable[bool]) -> float | None:
    listed = list(hits)
    return sum(listed) / len(listed) if listed else None


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return median(listed) if listed else None


def _table(report: Report) -> Table:
    table = Table(title=f"Text in a gallery of {report['gallery_size']}")
    table.add_column("")
    for name in report["datasets"]:
        table.add_column(name, justify="right")
    columns = [_column(metrics) for metrics in report["datasets"].values()]
    for row in columns[0] if columns else ():
        table.add_row(row, *(column[row] for column in columns))
    return table


def _column(metrics: TextMetrics) -> dict[str, str]:
    ties = {
        f"ties within {name}: right, by text (mended, broken)": _breaks(each)
        for name, each in metrics["ties"].items()
    }
    return {
        "references": str(metrics["references"]),
        "references with a readable word": _percent(metrics["references_with_a_word"]),
        "references with three": _percent(metrics["references_with_three_words"]),
        "photos of references": str(metrics["photos"]),
        "photos with a readable word": _percent(metrics["photos_with_a_word"]),
        "photos sharing a rare word with the reference": _percent(metrics["rare_word_shared"]),
        **{f"text alone, recall @{k}": _percent(each) for k, each in metrics["recall"].items()},
        "missed (first by text)": f"{metrics['missed']} ({metrics['missed_but_first_by_text']})",
        **ties,
        "milliseconds to read a photo": _shown(metrics["reading_milliseconds"], ".0f"),
        "milliseconds of the pipeline": _shown(metrics["pipeline_milliseconds"], ".0f"),
    }


def _breaks(each: TieBreaks) -> str:
    counts = f"{each['right']}, {each['right_by_text']} ({each['mended']}, {each['broken']})"
    return f"{counts} of {each['ties']}" if each["ties"] else "-"


def _percent(share: float | None) -> str:
    return _shown(share, ".1%")


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
