"""The benchmarks' commands: ``python -m benchmarks COMMAND``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import imagelink
import typer

from benchmarks import adapter as adapting
from benchmarks import baselines as comparing
from benchmarks import candidates as listing
from benchmarks import chaos as chaotic
from benchmarks import demo as demonstration
from benchmarks import forecast as forecasting
from benchmarks import index as indexes
from benchmarks import kills as killing
from benchmarks import recognition as recognising
from benchmarks import sampling as sampling_costs
from benchmarks import serving as serving_path
from benchmarks import stream as streaming
from benchmarks import stress as stressing
from benchmarks import swap as swapping
from benchmarks import text as texts
from benchmarks import train_demo as training_demonstration
from benchmarks import upgrade as upgrading
from benchmarks.errors import BenchmarkError
from benchmarks.filling import DEFAULT_CACHE
from benchmarks.victims import Victim
from indexing.bundle import DEFAULT_BUNDLE
from indexing.errors import ImageLinkError
from training.datasets import DatasetError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Datasets = Annotated[
    list[Path], typer.Option(help="A folder with references/, queries/ and pairs.csv.")
]
Distractors = Annotated[
    list[Path] | None, typer.Option(help="A folder of further pictures for the gallery.")
]
PhotoLimit = Annotated[
    int | None, typer.Option(min=1, help="Only so many photos of each dataset, at random.")
]
Output = Annotated[Path, typer.Option(help="The JSON file to write.")]
Bundle = Annotated[Path, typer.Option(envvar="IMAGELINK_BUNDLE", help="Folder of a model bundle.")]


@app.callback()
def benchmarks() -> None:
    """Measure ImageLink, and show what it does."""


@app.command()
def recognition(
    dataset: Datasets,
    output: Output,
    distractors: Distractors = None,
    bundle: Bundle = DEFAULT_BUNDLE,
    grpc: Annotated[
        str | None, typer.Option(metavar="TARGET", help="Scan through this live server instead.")
    ] = None,
    operator_key: Annotated[
        str | None, typer.Option(envvar="IMAGELINK_KEY", help="The live server's operator key.")
    ] = None,
    gallery_size: Annotated[
        int | None,
        typer.Option(min=1, help="Fill the gallery up to this with pictures made of distractors."),
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="A folder that keeps what --gallery-size computes.")
    ] = DEFAULT_CACHE,
    views: Annotated[
        int, typer.Option(min=0, help="Rendered views to scan of each reference of the datasets.")
    ] = 2,
    rendered: Annotated[
        int, typer.Option(min=0, help="Rendered photos to scan of pictures not in the gallery.")
    ] = 0,
    strangers: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of pictures for --rendered; else a tenth of the distractors."),
    ] = None,
    failures: Annotated[
        Path | None, typer.Option(help="A folder for a page that shows what went wrong.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="A folder for a plot of how reliable probabilities are.")
    ] = None,
) -> None:
    """Scan photos with known answers, and measure how many are recognised and how fast."""
    with _explained():
        if grpc and not operator_key:
            raise BenchmarkError("A live server needs --operator-key, or IMAGELINK_KEY.")
        scanner = recognising.Server(grpc, operator_key) if grpc and operator_key else bundle
        plan = recognising.Plan(
            dataset,
            distractors or [],
            scanner,
            output,
            views=views,
            rendered=rendered,
            strangers=strangers or [],
            gallery_size=gallery_size,
            cache=cache,
            failures=failures,
            plots=plots,
        )
        recognising.run(plan)


@app.command()
def candidates(
    dataset: Datasets,
    distractors: Annotated[
        list[Path], typer.Option(help="A folder of pictures to fill the galleries with.")
    ],
    output: Output,
    sizes: Annotated[
        list[int] | None,
        typer.Option(help="A gallery's size; 1000, 5000, 20000 and 100000 if none is given."),
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="The folder that keeps the features of fillers.")
    ] = DEFAULT_CACHE,
    queries: Annotated[
        int | None, typer.Option(min=0, help="Photos to ask, at most; all if not given.")
    ] = None,
    views: Annotated[int, typer.Option(min=0, help="Rendered views of references to ask.")] = 100,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Measure how well each source lists what photos show, as galleries grow, and what it costs."""
    with _explained():
        asked = sizes or [1000, 5000, 20_000, 100_000]
        listing.run(
            listing.Plan(dataset, distractors, bundle, output, asked, cache, queries, views)
        )


@app.command()
def forecast(
    dataset: Datasets,
    output: Output,
    distractors: Distractors = None,
    references: Annotated[
        int | None, typer.Option(min=1, help="Only so many of each dataset, at random.")
    ] = None,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Assess references as AssessImage does, and measure what that tells of their real photos."""
    with _explained():
        forecasting.run(dataset, distractors or [], bundle, output, references)


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


@app.command()
def sampling(
    pictures: Annotated[Path, typer.Option(help="A folder of clean pictures.")],
    output: Output,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each is trained.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="Of the network.")] = 2,
) -> None:
    """Measure what choosing triplets costs beside taking them at random."""
    with _explained():
        sampling_costs.run(pictures, output, rounds, threads)


@app.command("train-demo")
def train_demo(
    folder: Annotated[Path, typer.Option(help="For pictures, run and report.")] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train.")] = 2.5,
) -> None:
    """Draw pictures, train a network on them, and show how it beats the untrained one."""
    with _explained():
        if not training_demonstration.run(folder, minutes):
            raise typer.Exit(1)


@app.command()
def text(
    dataset: Datasets,
    output: Output,
    distractors: Distractors = None,
    queries: PhotoLimit = None,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Read the words on references and photos, and measure whether they would help."""
    with _explained():
        texts.run(dataset, distractors or [], bundle, output, queries)


@app.command()
def baselines(
    dataset: Datasets,
    output: Output,
    distractors: Distractors = None,
    plot: Annotated[
        Path | None, typer.Option(help="A PNG file for what is found among the K nearest.")
    ] = None,
    queries: PhotoLimit = None,
    exhaustive_gallery: Annotated[
        int,
        typer.Option(min=0, help="Distractors that photos are matched with one by one, at random."),
    ] = 1000,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Compare simple ways to find a photo's reference with the whole pipeline."""
    with _explained():
        comparing.run(
            comparing.Plan(
                dataset, distractors or [], bundle, output, plot, queries, exhaustive_gallery
            )
        )


@app.command()
def adapter(
    dataset: Datasets,
    output: Output,
    distractors: Distractors = None,
    former: Annotated[
        Path | None,
        typer.Option(help="Folder of the former model's bundle; an untrained one is made if none."),
    ] = None,
    new: Annotated[Path, typer.Option(help="Folder of the new model's bundle.")] = DEFAULT_BUNDLE,
    plot: Annotated[
        Path | None, typer.Option(help="A PNG file for recall by the share backfilled.")
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="A folder that keeps the embeddings of references.")
    ] = DEFAULT_CACHE,
) -> None:
    """Measure whether an adapter between two models' embeddings would spare waiting for a backfill."""
    with _explained():
        adapting.run(adapting.Plan(dataset, distractors or [], former, new, output, plot, cache))


@app.command()
def stress(
    pictures: Annotated[
        list[Path], typer.Option(help="A folder of pictures to register and to render photos of.")
    ],
    output: Output,
    distractors: Distractors = None,
    plot: Annotated[Path | None, typer.Option(help="A PNG file for the curves.")] = None,
    pictures_count: Annotated[
        int, typer.Option(min=1, help="How many pictures to render photos of, at random.")
    ] = 40,
    gallery: Annotated[int, typer.Option(min=1, help="How many pictures to register.")] = 200,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Measure how small, tilted, blurred, covered and so on things may be to be recognised."""
    with _explained():
        stressing.run(
            stressing.Plan(
                pictures, distractors or [], bundle, output, plot, pictures_count, gallery
            )
        )


@app.command()
def index(
    output: Output,
    small: Annotated[bool, typer.Option(help="A tenth of the size.")] = False,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Measure the index: memory, start, first scans, throughput, freshness; and kinds of indexes."""
    with _explained():
        indexes.run(output, bundle, small=small)


@app.command()
def kills(
    output: Output,
    victim: Annotated[
        list[Victim] | None,
        typer.Option(help="What to kill; shard, scanner and postgres by default."),
    ] = None,
    times: Annotated[int, typer.Option(min=1, help="How often to kill each.")] = 20,
    seed: Annotated[int, typer.Option(help="Of what is written, scanned and killed when.")] = 0,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Kill processes of a server under writes and scans, and measure what that leads to."""
    with _explained():
        report = killing.run(output, bundle, victim or killing.VICTIMS, times, seed)
        if report["lost"] or report["wrong"]:
            raise typer.Exit(1)


@app.command()
def stream(
    pictures: Annotated[
        list[Path], typer.Option(help="A folder of pictures: some to register, others to not.")
    ],
    output: Output,
    sessions: Annotated[
        int, typer.Option(min=1, help="Camera sessions of registered pictures, and of strangers.")
    ] = 200,
    gallery: Annotated[int, typer.Option(min=1, help="How many pictures to register.")] = 1000,
    small: Annotated[bool, typer.Option("--small", help="A fifth of the sessions.")] = False,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Pan a rendered camera onto pictures, and compare sessions with single scans of the frames."""
    with _explained():
        count = sessions // 5 if small else sessions
        streaming.run(streaming.Plan(pictures, bundle, output, max(count, 1), gallery))


@app.command()
def chaos(
    output: Output,
    victim: Annotated[
        list[Victim] | None, typer.Option(help="What to kill; everything by default.")
    ] = None,
    times: Annotated[int, typer.Option(min=1, help="How often to kill each.")] = 5,
    small: Annotated[bool, typer.Option("--small", help="Kill each once.")] = False,
    rolling_out: Annotated[
        bool, typer.Option("--rolling-out", help="Kill each at some moment of a model's rollout.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what is written, scanned and killed when.")] = 0,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Kill each kind of process of a server in turn, and measure what each leads to by itself."""
    with _explained():
        victims = victim or list(Victim)
        times = 1 if small else times
        report = chaotic.run(output, bundle, victims, times, seed, rolling_out=rolling_out)
        if any(toll["lost"] or toll["wrong"] for toll in report["tolls"].values()):
            raise typer.Exit(1)


@app.command()
def upgrade(
    output: Output,
    seconds: Annotated[float, typer.Option(min=1, help="Before, between and after.")] = 15.0,
    former: Annotated[
        Path | None, typer.Option(help="A checkout of the old server's version.")
    ] = None,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Put a new server in the place of an old one over one database, under scans and writes."""
    with _explained():
        report = upgrading.run(output, bundle, former, seconds)
        if report["failed_scans"] or report["lost"] or report["wrong"]:
            raise typer.Exit(1)


@app.command()
def swap(
    output: Output,
    references: Annotated[int, typer.Option(min=200, help="In all galleries together.")] = 5000,
    small: Annotated[bool, typer.Option("--small", help="A hundred, in two minutes.")] = False,
    plot: Annotated[Path | None, typer.Option(help="A picture of the scans over time.")] = None,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Bring another model into service under load, back, and in again."""
    with _explained():
        effort = swapping.SMALL if small else swapping.Effort(references)
        report = swapping.run(output, plot, bundle, effort)
        if report["failed_scans"] or report["wrong_answers"] or report["lost_registrations"]:
            raise typer.Exit(1)


@app.command()
def serving(
    output: Output,
    seconds: Annotated[float, typer.Option(min=2, help="Of each part.")] = 60.0,
    small: Annotated[bool, typer.Option("--small", help="In two minutes.")] = False,
    bundle: Bundle = DEFAULT_BUNDLE,
) -> None:
    """Compare scans over gRPC with the library alone and with peers; overload and flood the server."""
    with _explained():
        serving_path.run(output, bundle, 5.0 if small else seconds)


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
