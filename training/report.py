"""An evaluation as a page to look at: tables, curves, a map of the embeddings, and the failures."""

import base64
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from indexing.image import Pixels
from training.datasets import read_picture
from training.evaluation import Gallery, Judged, Outcome
from training.ranking import RANKS, Ranking

SHEETS = 24
SHOWN = 5
TILE = 150
MAPPED = 1500
RIGHT, WRONG, ASKED = (40, 160, 60), (200, 60, 50), (60, 90, 200)

TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def write_report(outcome: Outcome, file: Path) -> None:
    """Writes the page, with all its pictures in it."""
    judged = outcome.judged
    page = TEMPLATES.get_template("report.html").render(
        evaluation=outcome.evaluation,
        ranks=RANKS,
        curves=_inline(_curves(outcome)),
        map=_inline(_map(outcome)),
        sheets={name: [*_sheets(each, outcome.gallery)] for name, each in judged.items()},
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page)


def _curves(outcome: Outcome) -> bytes:
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, each in outcome.evaluation["datasets"].items():
        found = each["recall"]
        left.plot(RANKS, [found[str(rank)] for rank in RANKS], marker="o", label=name)
        if votes := each["votes_recall"]:
            values = [votes[str(rank)] for rank in RANKS]
            left.plot(RANKS, values, marker="s", linestyle="dashed", label=f"{name}, by votes")
        sizes = [int(size) for size in each["by_dimension"]]
        right.plot(sizes, list(each["by_dimension"].values()), marker="o", label=name)
    left.set(xscale="log", xticks=RANKS, xticklabels=RANKS, xlabel="k", ylabel="recall@k")
    right.set(xscale="log", xlabel="dimensions of the embedding", ylabel="recall@1")
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return _png(figure)


def _map(outcome: Outcome) -> bytes:
    """Embeddings in the plane by t-SNE (van der Maaten and Hinton, 2008): photos by their answers."""
    gallery, rng = outcome.gallery.features.embeddings, np.random.default_rng(0)
    judged = list(outcome.judged.values())
    answered = {number for each in judged for one in each.by_embedding for number in one.answers}
    others = np.setdiff1d(np.arange(len(gallery)), list(answered))
    shown = [*sorted(answered), *rng.permutation(others)[: max(0, MAPPED - len(answered))]]
    photos = np.concatenate([each.features.embeddings for each in judged])
    vectors = np.concatenate([gallery[shown], photos])
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    points = TSNE(metric="cosine", perplexity=perplexity, random_state=0).fit_transform(vectors)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        points[: len(shown), 0], points[: len(shown), 1], s=4, color="lightgrey", label="references"
    )
    start, places = len(shown), {number: place for place, number in enumerate(shown)}
    for name, each in outcome.judged.items():
        own = points[start : start + len(each.by_embedding)]
        start += len(own)
        axes.scatter(own[:, 0], own[:, 1], s=8, label=f"photos of {name}")
        for at, ranking in zip(own, each.by_embedding, strict=True):
            for answer in ranking.answers:
                line = np.stack([at, points[places[answer]]])
                axes.plot(*line.T, color="black", linewidth=0.3, alpha=0.5)
    axes.set(xticks=[], yticks=[])
    axes.legend(fontsize="small")
    return _png(figure)


def _sheets(judged: Judged, gallery: Gallery) -> Iterator[tuple[str, str]]:
    """The photos whose answer is not first, the worst first: a title, and a picture to inline.

    It shows what was asked, wanted and found.
    """
    missed = [
        (ranking, pair.query)
        for pair, ranking in zip(judged.dataset.pairs, judged.by_embedding, strict=True)
        if ranking.answers and ranking.found[0] not in ranking.answers
    ]
    for ranking, query in sorted(missed, key=lambda each: -_rank(each[0]))[:SHEETS]:
        answer = _tile(gallery.paths[ranking.answers[0]], RIGHT)
        found = [
            _tile(gallery.paths[number], RIGHT if number in ranking.answers else WRONG)
            for number in ranking.found[:SHOWN]
        ]
        sheet = np.hstack([_tile(query, ASKED), answer, *found])
        _, content = cv2.imencode(".jpg", sheet[:, :, ::-1])
        title = f"{query.name}: its answer has rank {_rank(ranking)}"
        yield title, _inline(content.tobytes(), "jpeg")


def _rank(ranking: Ranking) -> int:
    places = np.flatnonzero(np.isin(ranking.found, ranking.answers))
    return int(places[0]) + 1 if len(places) else len(ranking.found) + 1


def _tile(path: Path, colour: Sequence[int]) -> Pixels:
    """A picture in a square, with an edge that says what it is."""
    picture = read_picture(path, TILE - 8)
    tile = np.full((TILE, TILE, 3), 245, np.uint8)
    height, width = picture.shape[:2]
    top, left = (TILE - height) // 2, (TILE - width) // 2
    tile[top : top + height, left : left + width] = picture
    cv2.rectangle(tile, (0, 0), (TILE - 1, TILE - 1), tuple(colour), 3)
    return tile


def _png(figure: Figure) -> bytes:
    content = BytesIO()
    figure.savefig(content, dpi=110)
    return content.getvalue()


def _inline(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
