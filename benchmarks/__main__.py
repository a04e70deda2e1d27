"""The benchmarks' commands: ``python -m benchmarks COMMAND``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import imagelink
import typer

from benchmarks import demo as demonstration
from benchmarks import recognition as recognising
from benchmarks.errors import BenchmarkError
from indexing.bundle import DEFAULT_BUNDLE
from indexing.errors import ImageLinkError
from training.datasets import DatasetError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Bundle = Annotated[Path, typer.Option(envvar="IMAGELINK_BUNDLE", help="Folder of a model bundle.")]


@app.callback()
def benchmarks() -> None:
    """Measure ImageLink, and show what it does."""


@app.command()
def recognition(
    dataset: Annotated[
        list[Path], typer.Option(help="A folder with references/, queries/ and pairs.csv.")
    ],
    output: Annotated[Path, typer.Option(help="The JSON file to write.")],
    distractors: Annotated[
        list[Path] | None, typer.Option(help="A folder of further pictures for the gallery.")
    ] = None,
    bundle: Bundle = DEFAULT_BUNDLE,
    grpc: Annotated[
        str | None, typer.Option(metavar="TARGET", help="Scan through this live server instead.")
    ] = None,
    operator_key: Annotated[
        str | None, typer.Option(envvar="IMAGELINK_KEY", help="The live server's operator key.")
    ] = None,
    failures: Annotated[
        Path | None, typer.Option(help="A folder for pictures of what went wrong.")
    ] = None,
) -> None:
    """Scan photos with known answers, and measure how many are recognised and how fast."""
    with _explained():
        if grpc and not operator_key:
            raise BenchmarkError("A live server needs --operator-key, or IMAGELINK_KEY.")
        scanner = recognising.Server(grpc, operator_key) if grpc and operator_key else bundle
        recognising.run(dataset, distractors or [], scanner, output, failures)


@app.command()
def demo(
    pictures: Annotated[
        Path | None, typer.Option(help="A folder of your own pictures to register.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of your own photos to scan.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder to write pictures to.")] = Path("demo"),
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Start a server, register pictures, scan photos of them, and stop it again."""
    with _explained():
        if (pictures is None) != (photos is None):
            raise BenchmarkError("Give both --pictures and --photos, or neither.")
        own = (pictures, photos) if pictures and photos else None
        if not demonstration.run(own, output, bundle):
            raise typer.Exit(1)


@contextmanager
def _explained() -> Iterator[None]:
    """Ends the command with one sentence where it cannot run."""
    try:
        yield
    except (BenchmarkError, DatasetError, ImageLinkError, imagelink.ImageLinkError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
