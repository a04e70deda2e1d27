"""What a run learns from and what it is judged by: references with their photos, kept apart."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.config import TrainingConfig
from training.datasets import DatasetError, check_pictures, find_pictures, read_dataset
from training.rendering import Subject


@dataclass(frozen=True, slots=True)
class Split:
    """The subjects of a run, apart by reference."""

    training: tuple[Subject, ...]
    held_out: tuple[Subject, ...]


def read_subjects(config: TrainingConfig) -> tuple[Subject, ...]:
    """The references of a run with their photos, sorted.

    Raises DatasetError, naming every folder that is empty and file that is missing or broken.
    """
    found = {folder: find_pictures([Path(folder)]) for folder in config.pictures}
    if empty := [f"{folder}: no pictures in it" for folder, paths in found.items() if not paths]:
        raise DatasetError(empty)
    pictures = sorted({path for paths in found.values() for path in paths})
    check_pictures(pictures)
    photos: defaultdict[Path, list[Path]] = defaultdict(list)
    for picture in pictures:
        photos[picture] = []
    for folder in config.datasets:
        dataset = read_dataset(Path(folder))
        for reference in dataset.references:
            photos[reference] = []
        for pair in dataset.pairs:
            # A photo of two things shows neither alone.
            if len(pair.references) == 1:
                photos[pair.references[0]].append(pair.query)
    return tuple(Subject(reference, tuple(photos[reference])) for reference in sorted(photos))


def split(subjects: Sequence[Subject], config: TrainingConfig) -> Split:
    """Sets some of the subjects aside, the same ones for the same seed.

    Raises DatasetError where nothing would be left to learn from or to be judged by.
    """
    order = np.random.default_rng(config.seed).permutation(len(subjects))
    if config.folds is not None:
        held_out = order[config.fold :: config.folds]
        what = f"fold {config.fold + 1} of {config.folds}"
    else:
        held_out = order[: max(1, round(config.held_out * len(subjects)))]
        what = f"a share of {config.held_out} held out"
    training = np.setdiff1d(order, held_out)
    if len(held_out) == 0 or len(training) < 2:
        problem = f"{len(subjects)} references are too few for {what}."
        raise DatasetError([problem])
    return Split(
        tuple(subjects[number] for number in training),
        tuple(subjects[number] for number in np.sort(held_out)),
    )
