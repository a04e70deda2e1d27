"""The training job's commands: ``python -m training COMMAND``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from training.datasets import DatasetError
from training.publish import Publication, publish
from training.trainer import RunMismatchError, Trainer, TrainingConfig

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def training() -> None:
    """Train and measure the networks that recognise pictures."""


@app.command()
def train(
    pictures: Annotated[list[Path], typer.Option(help="A folder of pictures to train on.")],
    run: Annotated[Path, typer.Option(help="The run's folder; a run in it is resumed.")],
    minutes: Annotated[float, typer.Option(min=0, help="How long to train.")] = 40.0,
    dimension: Annotated[int, typer.Option(min=1, help="Length of an embedding.")] = 128,
    input_size: Annotated[int, typer.Option(min=32, help="Side of the input in pixels.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and the views.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of the network, and renderers.")] = (
        os.cpu_count() or 1
    ),
) -> None:
    """Train the embedding network on rendered views of pictures."""
    config = TrainingConfig(
        pictures=tuple(str(folder) for folder in pictures),
        dimension=dimension,
        input_size=input_size,
        minutes=minutes,
        seed=seed,
        threads=threads,
        workers=threads,
    )
    try:
        Trainer(config, run, typer.echo).train()
    except (DatasetError, RunMismatchError) as error:
        raise SystemExit(str(error)) from error


@app.command("publish")
def publish_run(
    run: Annotated[Path, typer.Option(help="The run's folder.")],
    pictures: Annotated[list[Path], typer.Option(help="A folder of pictures to calibrate on.")],
    output: Annotated[Path, typer.Option(help="The bundle's folder.")],
    trained_on: Annotated[str, typer.Option(help="What the pictures are, for people.")],
    name: Annotated[str, typer.Option(help="Of the model.")] = "default",
    views: Annotated[int, typer.Option(min=30, help="Views to calibrate on, twice.")] = 1500,
    codebook_pictures: Annotated[int, typer.Option(min=100, help="To fit codebooks on.")] = 3000,
) -> None:
    """Make a model bundle of a run: fit the codebooks, calibrate the decisions."""
    what = Publication(run, pictures, name, trained_on, codebook_pictures, views)
    try:
        typer.echo(publish(what, output))
    except (DatasetError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    app()
