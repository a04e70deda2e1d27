"""``imagelink publisher placement``, ``pin`` and ``unpin``: where a publisher's gallery lives."""

from typing import Annotated

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, print_fields, print_json, print_table
from imagelink.placement import Placement

PublisherId = Annotated[str, typer.Argument(metavar="PUBLISHER", help="The publisher's id.")]


def placement(ctx: typer.Context, publisher: PublisherId, json: Json = False) -> None:
    """Show which shards a publisher's gallery lives on."""
    with connected(ctx) as client:
        found = client.get_placement(publisher)
    _print(publisher, found, json)


def pin(
    ctx: typer.Context,
    publisher: PublisherId,
    shard: Annotated[int, typer.Option(min=0, help="The number of the shard to put it on.")],
    json: Json = False,
) -> None:
    """Put a publisher's whole gallery on a shard."""
    with connected(ctx) as client:
        pinned = client.pin_publisher(publisher, shard)
    _print(publisher, pinned, json)


def unpin(ctx: typer.Context, publisher: PublisherId, json: Json = False) -> None:
    """Leave it to the server again where a publisher's gallery lives."""
    with connected(ctx) as client:
        unpinned = client.unpin_publisher(publisher)
    _print(publisher, unpinned, json)


def _print(publisher: str, found: Placement, json: bool) -> None:
    if json:
        print_json(found)
        return
    print_fields(
        publisher=publisher, images=found.image_count, pinned="yes" if found.pinned else "no"
    )
    print_table(
        ("shard", "part"),
        (
            (part.shard.rpartition("/")[2], f"{part.part_number + 1} of {part.part_count}")
            for part in found.parts
        ),
    )
