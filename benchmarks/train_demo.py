"""The training demo: a model for one machine and five minutes, beside the same network before.

It needs no data: pictures are drawn, and photos of others than those learnt from are rendered.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.artwork import draw_collection
from benchmarks.artwork.collection import KINDS, Artwork, capacity
from benchmarks.index_server import encoded
from indexing.image import Pixels
from indexing.views import ViewConditions, clutter, render_view
from training.evaluation import Evaluation

LEARNT_SEEDS = range(11, 19)
ASKED_SEED = 19
PHOTOS = 2
INPUT_SIZE, REFERENCE_SIZE = 96, 64
ARCHITECTURE, WEIGHTS = "efficientnet_lite0", "IMAGENET1K_V1"
TRAINABLE_BLOCKS = 5
# So small a batch makes many steps in little time.
PAIRS = 32
# What a network can learn in minutes: hung pictures, seen from in front of them.
CONDITIONS = ViewConditions(
    area=(0.3, 0.9), tilt=40.0, turned=0.0, cut_off=0.0, occlusion=0.1, blur=0.5, noise=0.5
)

console = Console(highlight=False)


def run(folder: Path, minutes: float) -> bool:
    """Trains in ``folder`` and prints what came of it; returns whether it beats the pretrained network.

    Raises CalledProcessError where a command fails.
    """
    start = time.monotonic()
    learnt, dataset = folder / "pictures", folder / "dataset"
    _draw(learnt, dataset)
    trained, pretrained = folder / "run", folder / "pretrained.json"
    _training(
        "train",
        "--pictures",
        learnt,
        "--run",
        trained,
        "--minutes",
        minutes,
        "--pairs",
        PAIRS,
        "--trainable-blocks",
        TRAINABLE_BLOCKS,
        *_network(),
    )
    _training("baseline", "--dataset", dataset, "--output", pretrained, *_network())
    report = folder / "report.html"
    _training("evaluate", "--dataset", dataset, "--run", trained, "--report", report)
    figures = [_read(pretrained), _read(trained / "evaluation.json")]
    before, after = (each["datasets"]["dataset"]["recall"] for each in figures)
    table = Table(title=f"Photos of {figures[0]['gallery']} pictures that were not learnt from")
    for column in ("network", *(f"recall@{rank}" for rank in before)):
        table.add_column(column)
    for name, recall in (
        ("pretrained on ImageNet", before),
        (f"trained for {minutes:g} minutes", after),
    ):
        table.add_row(name, *(f"{value:.2f}" for value in recall.values()))
    console.print(table)
    console.print(f"The report is {report}, the curves are {trained / 'curves.png'}.")
    console.print(f"{time.monotonic() - start:.0f} s in all.")
    return after["1"] > before["1"]


def _draw(learnt: Path, dataset: Path) -> None:
    if (dataset / "pairs.csv").exists():
        return
    for seed in track(LEARNT_SEEDS, "Drawing pictures to learn from"):
        for art in _drawn(seed):
            _save(art.picture, learnt / f"{art.name}-{seed}.jpg")
    asked = _drawn(ASKED_SEED)
    rng, lines = np.random.default_rng(ASKED_SEED), ["query,references"]
    for art in track(asked, "Photographing others"):
        _save(art.picture, dataset / "references" / f"{art.name}.jpg")
        for number in range(PHOTOS):
            around = [asked[int(each)].picture for each in rng.integers(len(asked), size=2)]
            background = clutter(around, (640, 480), rng)
            name = f"queries/{art.name}-{number}.jpg"
            _save(render_view(art.picture, background, CONDITIONS, rng).photo, dataset / name)
            lines.append(f"{name},references/{art.name}.jpg")
    (dataset / "pairs.csv").write_text("\n".join(lines) + "\n")


def _drawn(seed: int) -> list[Artwork]:
    return [art for kind in KINDS for art in draw_collection(kind, capacity(kind), seed)]


def _save(picture: Pixels, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(picture))


def _network() -> Sequence[object]:
    return (
        *("--architecture", ARCHITECTURE, "--weights", WEIGHTS),
        *("--input-size", INPUT_SIZE, "--reference-size", REFERENCE_SIZE),
    )


def _training(*command: object) -> None:
    """Runs a command as anybody would, and shows it."""
    words = ["-m", "training", *(str(each) for each in command)]
    console.print(f"[bold]python {' '.join(words)}[/]")
    subprocess.run([sys.executable, *words], check=True)


def _read(file: Path) -> Evaluation:
    evaluation: Evaluation = json.loads(file.read_text())
    return evaluation
