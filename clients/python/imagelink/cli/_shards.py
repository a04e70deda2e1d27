"""``imagelink shard``: shows shards, adds some and drains some, with an operator's key."""

from collections.abc import Iterable
from typing import Annotated

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, moment, print_json, print_table
from imagelink.placement import Shard

app = typer.Typer(help="Manage shards (with an operator's key).", no_args_is_help=True)

ShardNumber = Annotated[int, typer.Argument(metavar="SHARD", min=0, help="The shard's number.")]


@app.command("list")
def list_all(ctx: typer.Context, json: Json = False) -> None:
    """List all shards with what is placed on each."""
    with connected(ctx) as client:
        shards = client.list_shards()
    _print(shards, json)


@app.command()
def add(ctx: typer.Context, json: Json = False) -> None:
    """Add a shard, which takes its share of the publishers once it has loaded them."""
    with connected(ctx) as client:
        shard = client.add_shard()
    _print([shard], json)


@app.command()
def drain(ctx: typer.Context, shard: ShardNumber, json: Json = False) -> None:
    """Move a shard's publishers elsewhere; its processes end a minute later."""
    with connected(ctx) as client:
        drained = client.drain_shard(shard)
    _print([drained], json)


@app.command()
def undrain(ctx: typer.Context, shard: ShardNumber, json: Json = False) -> None:
    """Have a drained shard take publishers again."""
    with connected(ctx) as client:
        undrained = client.undrain_shard(shard)
    _print([undrained], json)


def _print(shards: Iterable[Shard], json: bool) -> None:
    if json:
        for shard in shards:
            print_json(shard)
        return
    print_table(
        ("shard", "state", "since", "publishers", "images"),
        (
            (
                each.number,
                each.state,
                moment(each.state_time),
                each.publisher_count,
                each.image_count,
            )
            for each in shards
        ),
    )
