"""One configuration on every fold: what a figure is, and how far chance moves it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from training.config import TrainingConfig
from training.splits import read_subjects, split
from training.trainer import Report, Trainer


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the folds: its mean, and its standard deviation."""

    mean: float
    deviation: float


def cross_validate(
    config: TrainingConfig, folds: int, run: Path, report: Report
) -> dict[str, Spread]:
    """Trains a run for each fold in a folder of its own, where a run is resumed.

    Raises what Trainer raises.
    """
    each = [replace(config, folds=folds, fold=fold) for fold in range(folds)]
    subjects = read_subjects(config)
    for own in each:
        # A fold that is too small is told before the first is trained.
        split(subjects, own)
    last: list[Mapping[str, float]] = []
    for fold, own in enumerate(each):
        report(f"Fold {fold + 1} of {folds}")
        history = Trainer(own, run / f"fold-{fold + 1}", report).train()
        last.append(history.validation[-1])
    names = [name for name in last[0] if name != "step"]
    return {name: _spread([measured[name] for measured in last]) for name in names}


def _spread(values: list[float]) -> Spread:
    return Spread(mean(values), stdev(values) if len(values) > 1 else 0.0)
