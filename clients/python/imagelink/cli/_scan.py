"""``imagelink scan``: recognises what photos show."""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from imagelink._client import Client
from imagelink.cli._app import Connection, connected, explain
from imagelink.cli._output import Json, print_json, print_table
from imagelink.errors import ImageLinkError, PermissionDenied, Unauthenticated
from imagelink.types import ScanResult


@dataclass(frozen=True)
class Scanned:
    """A photo with what a scan said of it, or why there was no answer."""

    file: Path
    elapsed: float
    result: ScanResult | None = None
    error: str = ""


def scan(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Photos.")],
    min_gallery_version: Annotated[
        int, typer.Option(min=0, help="Wait until the gallery has this version.")
    ] = 0,
    json: Json = False,
) -> None:
    """Recognise which references photos show."""
    scanned = []
    with connected(ctx) as client:
        for file in files:
            scanned.append(_scan(client, ctx.obj, file, min_gallery_version))
            if json:
                print_json(_record(scanned[-1]))
    if not json:
        _print(scanned)
    if any(each.error for each in scanned):
        raise typer.Exit(1)


def _scan(client: Client, connection: Connection, file: Path, min_gallery_version: int) -> Scanned:
    start = time.perf_counter()
    try:
        result = client.scan(file, min_gallery_version=min_gallery_version)
    except (Unauthenticated, PermissionDenied):
        raise
    except (ImageLinkError, OSError) as error:
        return Scanned(file, time.perf_counter() - start, error=explain(error, connection))
    return Scanned(file, time.perf_counter() - start, result)


def _record(scanned: Scanned) -> dict[str, object]:
    head: dict[str, object] = {
        "file": str(scanned.file),
        "elapsed_ms": round(scanned.elapsed * 1000, 1),
    }
    if scanned.result is None:
        return head | {"error": scanned.error}
    return head | dataclasses.asdict(scanned.result)


def _print(scanned: list[Scanned]) -> None:
    rows = [row for each in scanned if each.result is not None for row in _rows(each, each.result)]
    if rows:
        print_table(("file", "reference", "probability", "link", "ms"), rows)
    for each in scanned:
        if each.error:
            print(f"{each.file}: {each.error}", file=sys.stderr)


def _rows(scanned: Scanned, result: ScanResult) -> list[tuple[object, ...]]:
    ms = f"{scanned.elapsed * 1000:.0f}"
    if not result:
        reason = result.no_match_reason
        return [(scanned.file, "-", "", reason.explanation if reason else "no match", ms)]
    return [
        (scanned.file, match.reference_id, f"{match.probability:.3f}", match.link, ms)
        for match in result.matches
    ]
