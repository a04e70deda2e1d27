"""What benchmarks ask: datasets of photos with answers, and the pictures that surround them."""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console

from benchmarks.errors import BenchmarkError
from training.datasets import AnsweredQueries, read_dataset

SEED = 2024

Item = TypeVar("Item")

console = Console(highlight=False)


def read_queries(folders: Sequence[Path]) -> dict[str, AnsweredQueries]:
    """The datasets by the names of their folders. Raises BenchmarkError or DatasetError."""
    queries: dict[str, AnsweredQueries] = {}
    for folder in folders:
        name = Path(os.path.abspath(folder)).name
        if not folder.is_dir():
            raise BenchmarkError(f"There is no dataset folder '{folder}'.")
        if name in queries:
            raise BenchmarkError(f"Two datasets have the name '{name}': rename one's folder.")
        with console.status(f"Reading {name} …"):
            queries[name] = read_dataset(folder)
    return queries


def apart_from(pictures: Iterable[Path], excluded: Collection[Path]) -> list[Path]:
    """Each picture once, whatever links lead to it, but those excluded."""
    files = {path.resolve() for path in excluded}
    others = {path.resolve(): path for path in pictures}
    return [path for file, path in others.items() if file not in files]


def sampled(items: Sequence[Item], count: int | None, seed: int = SEED) -> list[Item]:
    """At most ``count`` of the items, all if None: at random, the same each time, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(items))[:count]
    return [items[number] for number in sorted(chosen.tolist())]
