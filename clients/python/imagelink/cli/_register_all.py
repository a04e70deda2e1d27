"""``imagelink register-all``: registers many image files over one stream."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from imagelink._batch import Registration
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
from imagelink.errors import ImageLinkError


def register_all(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders of image files, and files.")
    ],
    link_template: Annotated[
        str, typer.Option(help="The links, with {name} for each reference's id.")
    ] = "",
    link: Annotated[str, typer.Option(help="The same link for all.")] = "",
    json: Json = False,
) -> None:
    """Register many image files fast; what failed is listed at the end.

    It may be run again: what is registered already is left as it is.
    """
    items = items_of(image_files(paths), template(link_template, link), assess=False)
    outcomes: list[Outcome] = []
    with connected(ctx) as client, progress(hidden=json) as bar:
        task = bar.add_task("Registering", total=len(items))
        try:
            for outcome in _outcomes(client, ctx.obj, items):
                outcomes.append(outcome)
                bar.advance(task)
                if json:
                    print_json(record(outcome))
        finally:  # Also of a stream that broke, whose error is told after.
            bar.stop()
            if outcomes and not json:
                print_outcomes(outcomes)
    if any(outcome.status is Status.FAILED for outcome in outcomes):
        raise typer.Exit(1)


def _outcomes(client: Client, connection: Connection, items: list[Item]) -> Iterator[Outcome]:
    """The outcome of each item, as they come; the server may ask to bring some again later."""
    distinct_items, twins = distinct(items)
    yield from twins
    left = [Registration(item.file, item.link, item.reference_id) for item in distinct_items]
    item_of = {item.reference_id: item for item in distinct_items}
    for tries_left in reversed(range(PATIENCE)):
        again, delay = [], 0.0
        with closing(client.register_all(left)) as results:
            for result in results:
                error = result.error
                if tries_left and isinstance(error, ImageLinkError) and error.retry_after:
                    again.append(result.registration)
                    delay = max(delay, error.retry_after)
                else:
                    item = item_of[result.registration.reference_id]
                    yield outcome_of(item, result.outcome, connection)
        if not again:
            return
        time.sleep(delay)
        left = again
