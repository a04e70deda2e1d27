"""The demo: a server of its own, pictures registered there, and photos of them scanned."""

import math
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imagelink import Client, InvalidArgument, Role, ScanResult
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.demo_photos import Poster, Shot, Show, drawn_show, own_show
from benchmarks.errors import BenchmarkError
from benchmarks.galleries import quad_shares, side_by_side
from benchmarks.local_server import LocalServer
from benchmarks.pictures import GREEN, GREY, RED, annotated, contact_sheet, titled
from benchmarks.steps import step
from indexing.bundle import load_bundle
from indexing.image import decode

IN_FLIGHT = 4
TIMEOUT_SECONDS = 60.0
MISSED_SHARE = 0.02
PHOTO_SIDE = 640
CELL, COLUMNS, MOST_CELLS = 260, 10, 120

console = Console(highlight=False, emoji=False, markup=False)

Clients = dict[str, Client]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A photo and the server's answer."""

    shot: Shot
    result: ScanResult
    milliseconds: float

    @property
    def right(self) -> bool | None:
        """Whether the answer is what the photo shows and nothing else; None where nobody knows."""
        if self.shot.shows is None:
            return None
        expected = [self.shot.shows] if self.shot.shows else []
        return [match.reference_id for match in self.result.matches] == expected


def run(own: tuple[Path, Path] | None, output: Path, bundle: Path) -> bool:
    """Runs the demo with drawn pictures, or a folder of pictures and one of photos.

    Returns whether it went well: at most 2 % of the registered things were missed, and nothing
    else was answered. Raises BenchmarkError, BundleInvalid, DatasetError or the client's
    ImageLinkError where it cannot run.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if own and own[1].resolve() == (output / "photos").resolve():
        raise BenchmarkError(f"Choose another output than {output}: it would overwrite photos.")
    load_bundle(bundle)  # Says in one sentence what is wrong with it.
    with step(console, "Reading the files" if own else "Drawing pictures and rendering photos"):
        show = own_show(*own) if own else drawn_show()
    if not show.posters or not show.shots:
        raise BenchmarkError("There is no JPEG, PNG or WebP file in one of the folders.")
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder:
        server = LocalServer(bundle, Path(folder))
        try:
            with step(console, "Starting the server"):
                server.start()
            scanned = _scan_show(server, show)
        finally:
            with step(console, "Stopping the server"):
                server.stop()
    _print_table(scanned)
    _draw(scanned, output)
    return _sum_up(scanned)


def _scan_show(server: LocalServer, show: Show) -> list[Scanned]:
    with Client(server.target, key=server.operator_key, timeout=TIMEOUT_SECONDS) as operator:
        clients = {name: _publisher(server.target, operator, name) for name in show.publishers}
    try:
        with step(console, f"Registering {len(show.posters)} pictures"):
            version = _register_all(clients, show.posters)
        with step(console, f"Scanning {len(show.shots)} photos"):
            shots = track(show.shots, "Scanning", console=console)
            answers = (_scan(clients, shot, version[shot.publisher]) for shot in shots)
            return [answer for answer in answers if answer]
    finally:
        for client in clients.values():
            client.close()


def _publisher(target: str, operator: Client, name: str) -> Client:
    operator.create_publisher(name, display_name=name.replace("-", " ").title())
    _, key = operator.create_api_key(name, role=Role.PUBLISH)
    return Client(target, key=key, timeout=TIMEOUT_SECONDS)


def _register_all(clients: Clients, posters: Sequence[Poster]) -> dict[str, int]:
    """Registers the pictures; returns the version of each publisher's gallery that has them."""
    versions = dict.fromkeys(clients, 0)
    register = partial(_register, clients)
    registered = side_by_side(register, posters, "Registering", IN_FLIGHT)
    for poster, version in zip(posters, registered, strict=True):
        versions[poster.publisher] = max(versions[poster.publisher], version)
    return versions


def _register(clients: Clients, poster: Poster) -> int:
    try:
        written = clients[poster.publisher].register(
            poster.file,
            link=poster.link,
            reference_id=poster.reference_id,
            metadata={"title": poster.title},
        )
    except InvalidArgument as error:
        console.print(f"{poster.title}: {error}")
        return 0
    return written.gallery_version


def _scan(clients: Clients, shot: Shot, version: int) -> Scanned | None:
    start = time.perf_counter()
    try:
        result = clients[shot.publisher].scan(shot.file, min_gallery_version=version)
    except InvalidArgument as error:
        console.print(f"{shot.name}: {error}")
        return None
    return Scanned(shot, result, 1000 * (time.perf_counter() - start))


def _print_table(scanned: Sequence[Scanned]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("photo", overflow="fold")
    table.add_column("publisher", no_wrap=True)
    table.add_column("answer")
    table.add_column("prob.", justify="right", no_wrap=True)
    table.add_column("link", overflow="fold")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in scanned:
        matches = each.result.matches
        table.add_row(
            each.shot.name,
            each.shot.publisher,
            "\n".join(match.metadata["title"] for match in matches) or _reason(each),
            "\n".join(f"{match.probability:.3f}" for match in matches),
            "\n".join(match.link for match in matches),
            f"{each.milliseconds:.0f}",
            {True: "✓", False: "✗", None: ""}[each.right],
        )
    console.print(table)


def _reason(scanned: Scanned) -> str:
    reason = scanned.result.no_match_reason
    return f"({reason.value.replace('_', ' ')})" if reason else ""


def _draw(scanned: Sequence[Scanned], output: Path) -> None:
    photos = output / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    cells = []
    for each in scanned:
        pixels, size = decode(each.shot.file, PHOTO_SIDE)
        matches = each.result.matches
        colour = RED if each.right is False else GREEN if matches else GREY
        marks = [(quad_shares(match, size), match.metadata["title"]) for match in matches]
        photo = annotated(pixels, marks, colour)
        photo.save(photos / f"{each.shot.name}.jpg", quality=90)
        caption = matches[0].metadata["title"] if matches else "nothing"
        cells.append(titled(photo, caption, colour, CELL))
    if cells:
        contact_sheet(cells[:MOST_CELLS], COLUMNS).save(output / "recognised.jpg", quality=88)
        console.print(f"The photos with what was found: {output / 'recognised.jpg'}, {photos}")


def _sum_up(scanned: Sequence[Scanned]) -> bool:
    typical = statistics.median(each.milliseconds for each in scanned) if scanned else math.nan
    if any(each.right is None for each in scanned):
        found = sum(bool(each.result) for each in scanned)
        console.print(f"recognised {found} of {len(scanned)}; p50 {typical:.0f} ms")
        return True
    registered = [each for each in scanned if each.shot.shows]
    others = [each for each in scanned if not each.shot.shows]
    recognised = sum(bool(each.right) for each in registered)
    silent = sum(bool(each.right) for each in others)
    console.print(
        f"recognised {recognised} of {len(registered)}; silent on {silent} of {len(others)}; "
        f"p50 {typical:.0f} ms"
    )
    missed = len(registered) - recognised
    return missed <= MISSED_SHARE * len(registered) and silent == len(others)
