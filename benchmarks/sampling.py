"""What choosing triplets costs: an epoch of each kind of sampling beside a uniform one."""

import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from benchmarks.json_file import write_json
from training.config import TrainingConfig
from training.losses import LossName, Sampling
from training.trainer import RECORD_EVERY, Trainer

console = Console(highlight=False)

RECORDS = 2


class Report(TypedDict):
    """Milliseconds of a step by the kind of sampling, and their ratios to uniform sampling."""

    milliseconds: dict[str, float]
    ratio: dict[str, float]


def run(pictures: Path, output: Path, rounds: int, threads: int) -> Report:
    """Trains some steps with each kind of sampling by turns, on the same batches."""
    kinds = [each for each in Sampling if each is not Sampling.ALL]
    steps: dict[Sampling, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        # Each goes first once.
        for kind in (*kinds[number % len(kinds) :], *kinds[: number % len(kinds)]):
            steps[kind] += _steps(pictures, kind, threads)
    milliseconds = {kind.value: 1000 * median(found) for kind, found in steps.items()}
    uniform = milliseconds[Sampling.UNIFORM.value]
    ratio = {kind: value / uniform for kind, value in milliseconds.items()}
    report = Report(milliseconds=milliseconds, ratio=ratio)
    write_json(output, report)
    table = Table(title="A training step by the sampling of triplets")
    for column in ("sampling", "milliseconds", "÷ uniform"):
        table.add_column(column, justify="left" if column == "sampling" else "right")
    for name, value in milliseconds.items():
        table.add_row(name, f"{value:.0f}", f"{ratio[name]:.2f}")
    console.print(table)
    return report


def _steps(pictures: Path, kind: Sampling, threads: int) -> list[float]:
    """Seconds of a step, means of ten; the first ten, in which all is set up, are left out."""
    config = TrainingConfig(
        pictures=(str(pictures),),
        loss=LossName.TRIPLET,
        sampling=kind,
        steps=RECORD_EVERY * (1 + RECORDS),
        threads=threads,
        workers=0,
        held_out=0.01,
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = [each["seconds"] for each in Trainer(config, Path(folder), _quiet).train().loss]
    return [(after - before) / RECORD_EVERY for before, after in pairwise(seconds)]


def _quiet(_: str) -> None:
    pass
