"""``imagelink scan-stream``: recognises what a camera sees, from its frames in files."""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from imagelink.cli._app import Connection, connected, explain
from imagelink.cli._files import image_files
from imagelink.cli._output import Json, print_json
from imagelink.sessions import FrameFailure, SessionEnd, SessionEvent, Sighting

LONGEST = 300.0
"""Seconds of a session: what the server allows."""


def scan_stream(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Frames in their order, and folders.")
    ],
    fps: Annotated[
        float | None,
        typer.Option(min=0.1, help="Send so many a second, and let late ones be dropped."),
    ] = None,
    min_gallery_version: Annotated[
        int, typer.Option(min=0, help="Wait until the gallery has this version.")
    ] = 0,
    reappear_after: Annotated[
        float | None,
        typer.Option(min=0.001, help="Tell a reference again after so many seconds out of view."),
    ] = None,
    json: Json = False,
) -> None:
    """Recognise what a camera sees: each reference once, when it is certain.

    Every frame is recognised, one after the other, unless --fps is given.
    """
    files = image_files(paths)
    failed = False
    with connected(ctx) as client:
        events = client.scan_stream(
            _paced(files, fps),
            min_gallery_version=min_gallery_version,
            max_duration=LONGEST,
            reappear_after=reappear_after,
            keep_late_frames=fps is None,
        )
        for event in events:
            failed |= isinstance(event, FrameFailure)
            if json:
                print_json(_record(event, files, ctx.obj))
            else:
                _print(event, files, ctx.obj)
    if failed:
        raise typer.Exit(1)


def _paced(files: Sequence[Path], fps: float | None) -> Iterator[Path]:
    start = time.monotonic()
    for number, file in enumerate(files):
        if fps is not None:
            time.sleep(max(0.0, start + number / fps - time.monotonic()))
        yield file


def _record(
    event: SessionEvent, files: Sequence[Path], connection: Connection
) -> dict[str, object]:
    match event:
        case Sighting():
            return {"file": str(files[event.frame_number])} | dataclasses.asdict(event)
        case FrameFailure(error, number, dropped):
            return {
                "file": str(files[number]),
                "error": explain(error, connection),
                "frame_number": number,
                "dropped_frames": dropped,
            }
        case SessionEnd():
            return dataclasses.asdict(event)


def _print(event: SessionEvent, files: Sequence[Path], connection: Connection) -> None:
    match event:
        case Sighting(match, number):
            print(
                f"{files[number]}: {match.reference_id}  {match.probability:.3f}  {match.link}",
                flush=True,
            )
        case FrameFailure(error, number):
            print(f"{files[number]}: {explain(error, connection)}", file=sys.stderr)
        case SessionEnd(reason, frames, dropped):
            print(f"{frames} frames, {dropped} dropped: {reason.value.replace('_', ' ')}")
