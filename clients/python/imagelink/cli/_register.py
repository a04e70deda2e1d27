"""``imagelink register``: registers image files, several at a time."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from imagelink._client import Client
from imagelink.cli._app import Connection, connected
from imagelink.cli._files import image_files
from imagelink.cli._outcomes import (
    PATIENCE,
    Item,
    Outcome,
    Status,
    distinct,
    items_of,
    outcome_of,
    print_outcomes,
    progress,
    record,
    template,
)
from imagelink.cli._output import Json, print_json
from imagelink.errors import ImageLinkError, ResourceExhausted
from imagelink.types import Written


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
    items = items_of(image_files(paths), template(link_template, link), assess)
    with connected(ctx) as client:
        # One sentence if the server, the key or its role will not do, and not one for each file.
        next(client.list_references(page_size=1), None)
        # The server assesses one after another: what waits there for long goes without.
        outcomes = _register_all(client, ctx.obj, items, 1 if assess else parallel, json)
    if not json:
        print_outcomes(outcomes)
    if any(outcome.status is Status.FAILED for outcome in outcomes):
        raise typer.Exit(1)


def _register_all(
    client: Client, connection: Connection, items: list[Item], parallel: int, json: bool
) -> list[Outcome]:
    outcomes = []
    with progress(hidden=json) as bar, ThreadPoolExecutor(parallel) as pool:
        task = bar.add_task("Registering", total=len(items))
        try:
            for outcome in _outcomes(client, connection, items, pool):
                outcomes.append(outcome)
                bar.advance(task)
                if json:
                    print_json(record(outcome))
        finally:  # An interrupted command does not begin the files that wait.
            pool.shutdown(cancel_futures=True)
    return outcomes


def _outcomes(
    client: Client, connection: Connection, items: list[Item], pool: ThreadPoolExecutor
) -> Iterator[Outcome]:
    """The outcome of each item, as they come."""
    distinct_items, twins = distinct(items)
    yield from twins
    run = partial(_register_one, client, connection)
    futures = [pool.submit(run, item) for item in distinct_items]
    for future in as_completed(futures):
        yield future.result()


def _register_one(client: Client, connection: Connection, item: Item) -> Outcome:
    result: Written | Exception
    try:
        result = _patiently(client, item)
    except (ImageLinkError, OSError) as error:
        result = error
    return outcome_of(item, result, connection)


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
    for _ in range(PATIENCE - 1):
        try:
            return run()
        except ResourceExhausted as error:
            if error.retry_after is None:
                raise
            time.sleep(error.retry_after)
    return run()
