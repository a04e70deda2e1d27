"""The search for hyper-parameters: random or TPE (Bergstra et al., 2011), with pruning, by Optuna."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import optuna
from matplotlib.figure import Figure
from optuna.importance import get_param_importances

from training.config import TrainingConfig
from training.losses import LossName, Sampling
from training.trainer import Report, Trainer

STUDY = "study.db"
FIGURE = "recall@1"
PLOT = "trials.png"


class Search(StrEnum):
    """How the next trial is chosen."""

    RANDOM = "random"
    TPE = "tpe"


def tune(
    config: TrainingConfig, trials: int, search: Search, run: Path, report: Report
) -> optuna.Study:
    """Trains until there are so many trials, each a run in the folder; a study there is gone on with.

    A trial is judged by recall@1 on what is held out, and ended early where it is below the median of
    those before. Raises what Trainer raises.
    """
    run.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(seed=config.seed)
    if search is Search.RANDOM:
        sampler = optuna.samplers.RandomSampler(seed=config.seed)
    study = optuna.create_study(
        study_name="recall",
        storage=f"sqlite:///{run / STUDY}",
        direction="maximize",
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        load_if_exists=True,
    )
    ended = [each for each in study.trials if each.state.is_finished()]
    study.optimize(
        lambda trial: _judged(trial, config, run, report), n_trials=max(0, trials - len(ended))
    )
    plot_trials(study, run / PLOT)
    return study


def suggested(trial: optuna.Trial, config: TrainingConfig) -> TrainingConfig:
    """The configuration of a trial: what is searched, the rest as given."""
    loss = LossName(trial.suggest_categorical("loss", [each.value for each in LossName]))
    sampling = Sampling.ALL
    if loss is not LossName.INFO_NCE:
        names = [each.value for each in Sampling]
        sampling = Sampling(trial.suggest_categorical("sampling", names))
    return replace(
        config,
        pairs=trial.suggest_categorical("pairs", (16, 32, 64, 96)),
        margin=trial.suggest_float("margin", 0.05, 0.5),
        trainable_blocks=trial.suggest_int("trainable_blocks", 1, 13),
        learning_rate=trial.suggest_float("learning_rate", 2e-4, 8e-3, log=True),
        dimension=trial.suggest_categorical("dimension", (64, 128, 256)),
        loss=loss,
        sampling=sampling,
        spread_weight=trial.suggest_categorical("spread_weight", (0.0, 1.0)),
    )


def _judged(trial: optuna.Trial, config: TrainingConfig, run: Path, report: Report) -> float:
    report(f"Trial {trial.number + 1}")
    trainer = Trainer(suggested(trial, config), run / f"trial-{trial.number + 1:03}", report)

    def validated(step: int, measured: dict[str, float]) -> None:
        trial.report(measured[FIGURE], step)
        if trial.should_prune():
            raise optuna.TrialPruned

    history = trainer.train(validated)
    return history.validation[-1][FIGURE]


def plot_trials(study: optuna.Study, file: Path) -> None:
    """Draws what each trial reached, and what mattered."""
    done = [each for each in study.trials if each.value is not None]
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    pruned = optuna.trial.TrialState.PRUNED
    for state, name in ((optuna.trial.TrialState.COMPLETE, "finished"), (pruned, "ended early")):
        own = [each for each in study.trials if each.state is state]
        values = [_reached(each) for each in own]
        left.scatter([each.number + 1 for each in own], values, label=name)
    left.set(xlabel="trial", ylabel=FIGURE)
    left.legend()
    left.grid(alpha=0.3)
    if len(done) > 1 and len({each.value for each in done}) > 1:
        importances = get_param_importances(study)
        right.barh(list(importances)[::-1], list(importances.values())[::-1])
    right.set(xlabel="share of the variance that a hyper-parameter explains")
    figure.savefig(file, dpi=110)


def _reached(trial: optuna.trial.FrozenTrial) -> float:
    values = [*trial.intermediate_values.values(), trial.value]
    return max((each for each in values if each is not None), default=0.0)
