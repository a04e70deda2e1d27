"""The training job's commands: ``python -m training COMMAND``."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.error import URLError

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from indexing.bundle import DEFAULT_BUNDLE, load_bundle
from indexing.errors import BundleInvalid
from training import description, evaluation, labelling, tuning
from training.config import TrainingConfig
from training.cross_validation import cross_validate
from training.datasets import DatasetError, find_pictures, read_dataset
from training.descriptor_trainer import DescriptorConfig, train_descriptors
from training.losses import LossName, Sampling
from training.mining import embed_pool, read_negatives, write_negatives
from training.mining import mine as mined
from training.publish import CALIBRATION_VIEWS, Publication, publish, recalibrate
from training.rendering import Views
from training.report import write_report
from training.runs import EVALUATION, RunMismatchError, network_sha256, write_json
from training.trainer import Trainer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(highlight=False)
CORES = len(os.sched_getaffinity(0))
DEFAULTS = TrainingConfig(pictures=())
RANDOM = "random"

Pictures = Annotated[list[Path], typer.Option(help="A folder of clean pictures. Repeatable.")]
Datasets = Annotated[
    list[Path], typer.Option("--dataset", help="A folder with pairs.csv. Repeatable.")
]
Distractors = Annotated[
    list[Path], typer.Option(help="A folder of more pictures for the gallery. Repeatable.")
]
RunFolder = Annotated[Path, typer.Option(help="The run's folder; a run in it is resumed.")]
BundleFolder = Annotated[Path, typer.Option(help="A model bundle.")]

# The options of a training, for every command that trains.
Photographed = Annotated[
    list[Path], typer.Option(help="References with real photos to train on. Repeatable.")
]
Minutes = Annotated[float, typer.Option(min=0, help="How long to train.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Batches to train, instead of minutes.")]
Architecture = Annotated[
    str, typer.Option(help="The backbone: torchvision's name, or efficientnet_lite0.")
]
Weights = Annotated[
    str, typer.Option(help=f"Pretrained ones by torchvision's name or in a file, or '{RANDOM}'.")
]
InputSize = Annotated[int, typer.Option(min=32, help="Side of photos in pixels.")]
ReferenceSize = Annotated[int, typer.Option(min=32, help="Side of references in pixels.")]
CalibrationViews = Annotated[int, typer.Option(min=30, help="Views to calibrate on, twice.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the weights, the views and the split.")]
Threads = Annotated[
    int, typer.Option(min=1, help="Of the network, and renderers beside it if not 1.")
]


@contextmanager
def _told() -> Iterator[None]:
    """Ends the command with the message of what its user can mend."""
    try:
        yield
    except URLError as error:
        problem = f"The pretrained weights cannot be downloaded ({error.reason})."
        raise SystemExit(f"{problem} Name a file that has them: --weights FILE") from error
    except (DatasetError, RunMismatchError, BundleInvalid, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error


@app.callback()
def training() -> None:
    """Train and measure the networks that recognise pictures."""


@app.command()
def describe(
    dataset: Datasets,
    plot: Annotated[Path | None, typer.Option(help="Where to draw it, a PNG.")] = None,
) -> None:
    """Say what is in datasets: counts, sizes, domains, boxes of VOC files beside the queries."""
    with _told():
        found = [description.describe(read_dataset(folder)) for folder in dataset]
        for each in found:
            for table in description.tables(each):
                console.print(table)
        if plot is not None:
            description.plot(found, plot)


@app.command()
def label(
    queries: Annotated[Path, typer.Option(help="A folder of photos without labels.")],
    references: Annotated[Path, typer.Option(help="A folder of what they may show.")],
    output: Annotated[Path, typer.Option(help="For VOC files, pairs.csv and tasks.json.")],
    bundle: BundleFolder = DEFAULT_BUNDLE,
) -> None:
    """Propose for each photo the likeliest references, and where they are."""
    with _told():
        photos = find_pictures([queries])
        labeller = labelling.Labeller(load_bundle(bundle), find_pictures([references]))
        labels = [labeller.label(photo) for photo in track(photos, "Photos")]
        for each in labels:
            own = each.photo.relative_to(queries).with_suffix(".xml")
            labelling.write_label(each, output / "voc" / own)
        root = Path(os.path.commonpath([queries.resolve(), references.resolve()]))
        labelling.write_pairs(labels, root, output / "pairs.csv")
        labelling.write_tasks(labels, output / "tasks.json")
        (output / "label-studio.xml").write_text(labelling.LABEL_STUDIO)
    placed = sum(bool(each.proposals) and each.proposals[0].verified for each in labels)
    boxed = sum(each.rectangle is not None for each in labels)
    console.print(f"{len(labels)} photos: {placed} with a reference in its place, {boxed} with a")
    console.print(f"rectangle. Written to {output}: voc/, pairs.csv, tasks.json, label-studio.xml.")


@app.command()
def baseline(
    dataset: Datasets,
    output: Annotated[Path, typer.Option(help="The JSON file of the figures.")],
    distractors: Distractors = [],  # noqa: B006
    architecture: Architecture = "vgg16",
    weights: Weights = RANDOM,
    input_size: InputSize = 224,
    reference_size: ReferenceSize = 224,
) -> None:
    """Measure a backbone as it is, without training: random, or pretrained on ImageNet."""
    with _told():
        sizes = input_size, reference_size
        source = partial(evaluation.of_backbone, architecture, _named(weights), *sizes)
        _evaluate(source, dataset, distractors, output, None)


@app.command()
def train(
    pictures: Pictures,
    run: RunFolder,
    dataset: Photographed = [],  # noqa: B006
    minutes: Minutes = 40.0,
    steps: Steps = None,
    architecture: Architecture = DEFAULTS.architecture,
    weights: Weights = DEFAULTS.weights or RANDOM,
    start: Annotated[
        Path | None, typer.Option(help="A run of the same network, to begin as it ended.")
    ] = None,
    dimension: Annotated[
        int, typer.Option(min=1, help="Length of an embedding.")
    ] = DEFAULTS.dimension,
    input_size: InputSize = DEFAULTS.input_size,
    reference_size: ReferenceSize = DEFAULTS.reference_size,
    pairs: Annotated[int, typer.Option(min=2, help="References in a batch.")] = 96,
    loss: Annotated[LossName, typer.Option(help="What is minimised.")] = LossName.INFO_NCE,
    sampling: Annotated[Sampling, typer.Option(help="Triplets learnt from.")] = Sampling.ALL,
    margin: Annotated[float, typer.Option(min=0, help="Of the loss and semi-hard sampling.")] = 0.2,
    spread_weight: Annotated[float, typer.Option(min=0, help="Of the score regulariser.")] = 0.0,
    learning_rate: Annotated[float, typer.Option(min=0, help="The highest.")] = (
        DEFAULTS.learning_rate
    ),
    pretrained_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the weights it began with, in what is saved.")
    ] = DEFAULTS.pretrained_share,
    trainable_blocks: Annotated[
        int | None, typer.Option(min=0, help="Train the last blocks only; all by default.")
    ] = None,
    unfreeze_every: Annotated[
        float | None, typer.Option(help="One more block after each such share of the training.")
    ] = None,
    spatial_transformer: Annotated[
        bool,
        typer.Option("--spatial-transformer", help="Find the picture and straighten it first."),
    ] = False,
    keep_aspect: Annotated[
        bool, typer.Option("--keep-aspect", help="See pictures in their own shape, not squashed.")
    ] = False,
    views: Annotated[Views, typer.Option(help="What views are rendered with.")] = Views.FULL,
    stored_pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Render so many pairs of each picture first, and none later."),
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(help="Hard negatives, a file that 'mine' wrote.")
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    held_out: Annotated[float, typer.Option(help="Share of references to validate on.")] = 0.06,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="Validate and save every so many steps.")
    ] = None,
    seed: Seed = 0,
    threads: Threads = CORES,
) -> None:
    """Train the embedding network on views of pictures, and on photos where there are some."""
    config = _config(
        pictures,
        dataset,
        threads,
        held_out=held_out,
        views=views,
        stored_pairs=stored_pairs,
        negatives=str(negatives) if negatives else None,
        architecture=architecture,
        weights=_named(weights),
        pretrained_share=pretrained_share,
        start=str(start) if start else None,
        dimension=dimension,
        spatial_transformer=spatial_transformer,
        trainable_blocks=trainable_blocks,
        unfreeze_every=unfreeze_every,
        loss=loss,
        sampling=sampling,
        margin=margin,
        spread_weight=spread_weight,
        input_size=input_size,
        reference_size=reference_size,
        keep_aspect=keep_aspect,
        pairs=pairs,
        minutes=minutes,
        steps=steps,
        learning_rate=learning_rate,
        bf16=bf16,
        checkpoint_steps=checkpoint_steps,
        seed=seed,
    )
    with _told():
        Trainer(config, run, typer.echo).train()


@app.command("train-descriptors")
def train_descriptors_command(
    pictures: Pictures,
    run: RunFolder,
    steps: Annotated[int, typer.Option(min=1, help="Batches to train.")] = 5_000,
    views_each: Annotated[int, typer.Option(min=1, help="Views rendered of each picture.")] = 2,
    seed: Seed = 0,
    threads: Threads = CORES,
) -> None:
    """Train the local descriptors, on patches of pictures and of rendered views of them."""
    torch.set_num_threads(threads)
    config = DescriptorConfig(
        tuple(map(str, pictures)), views_each=views_each, steps=steps, seed=seed
    )
    with _told():
        train_descriptors(config, run, typer.echo)


@app.command()
def mine(
    pictures: Pictures,
    output: Annotated[Path, typer.Option(help="A CSV file; verdicts in it are obeyed and kept.")],
    extra: Annotated[
        list[Path], typer.Option(help="More pictures that may be negatives. Repeatable.")
    ] = [],  # noqa: B006
    run: Annotated[Path | None, typer.Option(help="A run whose network mines.")] = None,
    bundle: BundleFolder = DEFAULT_BUNDLE,
    each: Annotated[int, typer.Option(min=1, help="Negatives of a picture.")] = 5,
) -> None:
    """List the pictures that a network takes for each other, for a person to judge and to train on."""
    with _told():
        model = evaluation.of_run(run) if run else evaluation.of_bundle(bundle)
        own = find_pictures(pictures)
        everything = dict.fromkeys([*own, *find_pictures(extra)])
        pool = embed_pool(model.embedder, list(everything))
        judged = read_negatives(output) if output.exists() else []
        negatives = mined(pool, len(own), each, judged)
        write_negatives(negatives, output)
    console.print(f"{len(negatives)} hard negatives of {len(own)} pictures in {output}.")
    console.print("Write 'same' or 'different' into its last column where you know better.")


@app.command("cross-validate")
def cross_validate_command(
    pictures: Pictures,
    run: RunFolder,
    dataset: Photographed = [],  # noqa: B006
    folds: Annotated[int, typer.Option(min=2, help="Split by reference.")] = 4,
    minutes: Minutes = 40.0,
    steps: Steps = None,
    architecture: Architecture = DEFAULTS.architecture,
    weights: Weights = DEFAULTS.weights or RANDOM,
    input_size: InputSize = DEFAULTS.input_size,
    reference_size: ReferenceSize = DEFAULTS.reference_size,
    pairs: Annotated[int, typer.Option(min=2, help="References in a batch.")] = 96,
    seed: Seed = 0,
    threads: Threads = CORES,
) -> None:
    """Train on all folds but one, each in turn, and say how far the figures spread."""
    config = _config(
        pictures,
        dataset,
        threads,
        architecture=architecture,
        weights=_named(weights),
        input_size=input_size,
        reference_size=reference_size,
        pairs=pairs,
        minutes=minutes,
        steps=steps,
        seed=seed,
    )
    with _told():
        spreads = cross_validate(config, folds, run, typer.echo)
        figures = {name: asdict(each) for name, each in spreads.items()}
        _write(run / "cross-validation.json", {"folds": folds, "figures": figures})
    table = Table(title=f"{folds} folds")
    for column in ("figure", "mean", "standard deviation"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, spread in spreads.items():
        table.add_row(name, f"{spread.mean:.3f}", f"{spread.deviation:.3f}")
    console.print(table)


@app.command()
def tune(
    pictures: Pictures,
    run: Annotated[Path, typer.Option(help="For the study and its trials; resumed if there.")],
    dataset: Photographed = [],  # noqa: B006
    trials: Annotated[int, typer.Option(min=1, help="In all, with those there are.")] = 30,
    search: Annotated[
        tuning.Search, typer.Option(help="How the next trial is chosen.")
    ] = tuning.Search.TPE,
    steps: Annotated[int, typer.Option(min=1, help="Batches of each trial.")] = 400,
    architecture: Architecture = DEFAULTS.architecture,
    weights: Weights = DEFAULTS.weights or RANDOM,
    input_size: InputSize = DEFAULTS.input_size,
    reference_size: ReferenceSize = DEFAULTS.reference_size,
    seed: Seed = 0,
    threads: Threads = CORES,
) -> None:
    """Search for hyper-parameters: batch size, margin, blocks trained, learning rate, loss, …"""
    config = _config(
        pictures,
        dataset,
        threads,
        architecture=architecture,
        weights=_named(weights),
        input_size=input_size,
        reference_size=reference_size,
        steps=steps,
        checkpoint_steps=max(1, steps // 4),
        seed=seed,
    )
    with _told():
        study = tuning.tune(config, trials, search, run, typer.echo)
    table = Table(title=f"The best of {len(study.trials)} trials")
    for column in ("trial", "recall@1", "hyper-parameters"):
        table.add_column(column)
    done = [each for each in study.trials if each.value is not None]
    for trial in sorted(done, key=lambda one: -(one.value or 0.0))[:5]:
        params = ", ".join(f"{name} {value}" for name, value in trial.params.items())
        table.add_row(str(trial.number + 1), f"{trial.value:.3f}", params)
    console.print(table)


@app.command()
def evaluate(
    dataset: Datasets,
    output: Annotated[Path | None, typer.Option(help="The JSON file of the figures.")] = None,
    distractors: Distractors = [],  # noqa: B006
    bundle: BundleFolder = DEFAULT_BUNDLE,
    run: Annotated[Path | None, typer.Option(help="A training run instead of a bundle.")] = None,
    report: Annotated[Path | None, typer.Option(help="An HTML file to look at.")] = None,
) -> None:
    """Measure what a model finds on real photos by its embedding, and by its votes alone."""
    if run is None and output is None:
        raise SystemExit("Name a file for the figures: --output FILE.json")
    with _told():
        source = partial(evaluation.of_run, run) if run else partial(evaluation.of_bundle, bundle)
        figures = _evaluate(source, dataset, distractors, output, report)
        if run is not None:
            _write(run / EVALUATION, figures | {"network_sha256": network_sha256(run)})


@app.command("publish")
def publish_run(
    run: Annotated[Path, typer.Option(help="The run's folder.")],
    pictures: Annotated[list[Path], typer.Option(help="A folder of pictures to calibrate on.")],
    output: Annotated[Path, typer.Option(help="The bundle's folder.")],
    trained_on: Annotated[str, typer.Option(help="What the pictures are, for people.")],
    name: Annotated[str, typer.Option(help="Of the model.")] = "default",
    parent: Annotated[str | None, typer.Option(help="The version that it follows.")] = None,
    descriptors: Annotated[
        Path | None,
        typer.Option(help="A run of train-descriptors, whose descriptors replace RootSIFT."),
    ] = None,
    calibrated_as: Annotated[
        Path | None,
        typer.Option(
            help="A bundle to take local descriptors, codebooks and calibration from: none are fitted."
        ),
    ] = None,
    views: CalibrationViews = CALIBRATION_VIEWS,
    codebook_pictures: Annotated[int, typer.Option(min=100, help="To fit codebooks on.")] = 3000,
    rollout: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=100,
            help="Roll it out to so many percent of the publishers, on the server of IMAGELINK_TARGET.",
        ),
    ] = None,
) -> None:
    """Make a model bundle of an evaluated run: fit codebooks, calibrate the decisions."""
    what = Publication(
        run,
        pictures,
        name,
        trained_on,
        parent,
        descriptors,
        calibrated_as,
        codebook_pictures,
        views,
    )
    with _told():
        typer.echo(publish(what, output))
    if rollout is not None:
        _roll_out(output, rollout)


@app.command("calibrate")
def calibrate_bundle(
    bundle: Annotated[Path, typer.Option(help="The folder of the bundle.")],
    pictures: Annotated[list[Path], typer.Option(help="A folder of pictures to calibrate on.")],
    output: Annotated[Path, typer.Option(help="The folder of the calibrated bundle.")],
    views: CalibrationViews = CALIBRATION_VIEWS,
    seed: Seed = 0,
) -> None:
    """Calibrate the decisions of a bundle anew, on other pictures or on more views of them."""
    with _told():
        typer.echo(recalibrate(bundle, pictures, output, views, seed))


def _roll_out(bundle: Path, percent: float) -> None:
    """Hands a bundle to a server, as an operator would: this job knows no API itself."""
    client = Path(sys.executable).with_name("imagelink")
    done = subprocess.run([client, "model", "rollout", bundle, f"--canary={percent}"], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


def _evaluate(
    source: evaluation.Source,
    folders: list[Path],
    distractors: list[Path],
    output: Path | None,
    report: Path | None,
) -> dict[str, object]:
    outcome = evaluation.evaluate(source, evaluation.read_datasets(folders), distractors)
    figures = dict(outcome.evaluation)
    table = Table(
        title=f"Recall of {figures['model']} in a gallery of {figures['gallery']}",
        caption="@P90: the most that one threshold finds while nine in ten of its findings are right",
    )
    for column in ("photos", "by", "@1", "@5", "@20", "@50", "@P90", "micro-AP"):
        left = column in ("photos", "by")
        # Where there is little room names are wrapped, and not figures cut off.
        table.add_column(column, justify="left" if left else "right", no_wrap=not left)
    for name, scores in outcome.evaluation["datasets"].items():
        found = [f"{value:.3f}" for value in scores["recall"].values()]
        rest = [f"{scores[key]:.3f}" for key in ("recall_at_p90", "micro_ap")]
        table.add_row(name, "embedding", *found, *rest)
        for channel, recall in scores["votes_by_channel"].items():
            table.add_row("", f"votes of {channel}", *(f"{value:.3f}" for value in recall.values()))
    console.print(table)
    if output is not None:
        _write(output, figures)
    if report is not None:
        write_report(outcome, report)
    return figures


def _named(weights: str) -> str | None:
    return None if weights == RANDOM else weights


def _config(
    pictures: list[Path], datasets: list[Path], threads: int, **options: Any
) -> TrainingConfig:
    with _told():
        return TrainingConfig(
            pictures=tuple(str(folder) for folder in pictures),
            datasets=tuple(str(folder) for folder in datasets),
            threads=threads,
            workers=threads if threads > 1 else 0,
            **options,
        )


def _write(file: Path, values: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, values)


if __name__ == "__main__":
    app()
