"""The commands around a load test: ``python -m loadtests COMMAND``."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import imagelink
import typer

from benchmarks.errors import BenchmarkError
from loadtests import local
from loadtests import prepare as preparing
from loadtests.workload import WorkloadError, read_workload

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Option(help="The folder of the workload.")]
OperatorKey = Annotated[
    str, typer.Option(envvar="IMAGELINK_KEY", help="The operator's key of the server.")
]
Publishers = Annotated[int, typer.Option(min=1, help="Publishers, of 12 to 16 references each.")]
Photos = Annotated[int, typer.Option(min=1, help="Photos to render of each reference.")]

DEFAULT_FOLDER = Path("loadtest/workload")


@app.callback()
def loadtests() -> None:
    """Load tests of ImageLink; docs/load-testing.md tells more."""


@app.command()
def prepare(
    operator_key: OperatorKey,
    target: Annotated[str, typer.Option(help="The server's host:port.")] = "localhost:9000",
    publishers: Publishers = 8,
    photos: Photos = 2,
    output: Folder = DEFAULT_FOLDER,
) -> None:
    """Create publishers with references on a server, and render the photos to scan."""
    workload = preparing.prepare(target, operator_key, output, publishers, photos)
    count = sum(len(publisher.photos) for publisher in workload.publishers)
    print(f"{output}: {len(workload.publishers)} publishers, {count} photos of their references")


@app.command()
def clean(operator_key: OperatorKey, workload: Folder = DEFAULT_FOLDER) -> None:
    """Delete a workload's publishers from the server."""
    preparing.delete_publishers(read_workload(workload), operator_key)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="All further options are locust's, such as --users 16 --run-time 5m --shape ramp.",
)
def run(
    context: typer.Context,
    publishers: Publishers = 8,
    photos: Photos = 2,
    output: Annotated[Path, typer.Option(help="The folder for the reports.")] = Path("loadtest"),
) -> None:
    """Start a server, prepare it, run locust with its thresholds, and stop the server again."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise typer.Exit(local.run(output, publishers, photos, context.args))


def main() -> None:
    """Runs a command, and tells what failed in one sentence."""
    try:
        app()
    except (BenchmarkError, WorkloadError, imagelink.ImageLinkError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
