"""``imagelink register``: registers image files, several at a time."""

import dataclasses
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imagelink._client import Client
from imagelink.cli._app import Connection, connected, explain, fail
from imagelink.cli._assess import summary
from imagelink.cli._files import image_files, slug
from imagelink.cli._output import Json, console, print_json
from imagelink.errors import AlreadyExists, ImageLinkError, ResourceExhausted
from imagelink.types import Assessment, Written

_PATIENCE = 5
"""How often a file is tried while the server asks to come back later."""


class Status(StrEnum):
    """What became of a file."""

    REGISTERED = "registered"
    ALREADY_REGISTERED = "already registered"
    FAILED = "failed"


@dataclass(frozen=True)
class Item:
    """A file to register."""

    file: Path
    reference_id: str
    link: str
    assess: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a file, and why if it failed."""

    item: Item
    status: Status
    reference: str = ""
    gallery_version: int = 0
    assessment: Assessment | None = None
    error: str = ""


def register(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Image files, and folders of them.")
    ],
    link_template: Annotated[
        str, typer.Option(help="The links, with {name} for each reference's id.")
    ] = "",
    link: Annotated[str, typer.Option(help="The same link for all.")] = "",
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Files in flight at a time.")] = 8,
    assess: Annotated[
        bool, typer.Option("--assess", help="Say of each how well it will scan; takes seconds.")
    ] = False,
    json: Json = False,
) -> None:
    """Register each image file as a reference, whose id is made from the file's name."""
    items = _items(image_files(paths), _template(link_template, link), assess)
    with connected(ctx) as client:
        # One sentence if the server, the key or its role will not do, and not one for each file.
        next(client.list_references(page_size=1), None)
        # The server assesses one after another: what waits there for long goes without.
        outcomes = _register_all(client, ctx.obj, items, 1 if assess else parallel, json)
    if not json:
        _print(outcomes)
    if any(outcome.status is Status.FAILED for outcome in outcomes):
        raise typer.Exit(1)


def _template(link_template: str, link: str) -> str:
    if bool(link_template) == bool(link):
        fail("Give either --link-template or --link.")
    if link_template and "{name}" not in link_template:
        fail("The link template lacks {name}: write it in, or give --link for one and the same.")
    return link_template or link


def _items(files: Sequence[Path], template: str, assess: bool) -> list[Item]:
    if not files:
        fail("There are no JPEG, PNG or WebP files in what was given.")
    ids = [slug(file.stem) for file in files]
    return [
        Item(file, reference_id, template.replace("{name}", reference_id), assess)
        for file, reference_id in zip(files, ids, strict=True)
    ]


def _register_all(
    client: Client, connection: Connection, items: list[Item], parallel: int, json: bool
) -> list[Outcome]:
    outcomes = []
    with _progress(hidden=json) as bar, ThreadPoolExecutor(parallel) as pool:
        task = bar.add_task("Registering", total=len(items))
        try:
            for outcome in _outcomes(client, connection, items, pool):
                outcomes.append(outcome)
                bar.advance(task)
                if json:
                    print_json(_record(outcome))
        finally:  # An interrupted command does not begin the files that wait.
            pool.shutdown(cancel_futures=True)
    return outcomes


def _outcomes(
    client: Client, connection: Connection, items: list[Item], pool: ThreadPoolExecutor
) -> Iterator[Outcome]:
    """The outcome of each item, as they come."""
    first: dict[str, Item] = {}
    for item in items:
        if first.setdefault(item.reference_id, item) is not item:
            yield _same_id(item, first[item.reference_id])
    run = partial(_register_one, client, connection)
    futures = [pool.submit(run, item) for item in first.values()]
    for future in as_completed(futures):
        yield future.result()


def _same_id(item: Item, other: Item) -> Outcome:
    problem = f"Its id '{item.reference_id}' is that of {other.file} too: rename one of them."
    return Outcome(item, Status.FAILED, error=problem)


def _register_one(client: Client, connection: Connection, item: Item) -> Outcome:
    try:
        written = _patiently(client, item)
    except AlreadyExists:
        return Outcome(item, Status.ALREADY_REGISTERED)
    except (ImageLinkError, OSError) as error:
        return Outcome(item, Status.FAILED, error=explain(error, connection))
    name = written.reference.name
    return Outcome(
        item, Status.REGISTERED, name, written.gallery_version, assessment=written.assessment
    )


def _patiently(client: Client, item: Item) -> Written:
    """Registers an item, coming back later while an overloaded server asks for that."""
    run = partial(
        client.register,
        item.file,
        link=item.link,
        reference_id=item.reference_id,
        request_id=str(uuid.uuid4()),
        assess=item.assess,
    )
    for _ in range(_PATIENCE - 1):
        try:
            return run()
        except ResourceExhausted as error:
            if error.retry_after is None:
                raise
            time.sleep(error.retry_after)
    return run()


def _progress(*, hidden: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=hidden or not sys.stderr.isatty(),
    )


def _record(outcome: Outcome) -> dict[str, object]:
    record: dict[str, object] = {
        "file": str(outcome.item.file),
        "reference_id": outcome.item.reference_id,
        "status": outcome.status.replace(" ", "_"),
    }
    if outcome.status is Status.REGISTERED:
        record |= {"reference": outcome.reference, "gallery_version": outcome.gallery_version}
    if outcome.assessment:
        record["assessment"] = dataclasses.asdict(outcome.assessment)
    if outcome.error:
        record["error"] = outcome.error
    return record


def _print(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.status is Status.ALREADY_REGISTERED:
            print(f"{outcome.item.file}: already registered as {outcome.item.reference_id}")
    for outcome in outcomes:
        if outcome.status is Status.REGISTERED and outcome.item.assess:
            made = summary(outcome.assessment) if outcome.assessment else "registered, not assessed"
            print(f"{outcome.item.file}: {made}")
    for outcome in outcomes:
        if outcome.status is Status.FAILED:
            print(f"{outcome.item.file}: {outcome.error}", file=sys.stderr)
    counts = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{counts[status]} {status}" for status in Status))
