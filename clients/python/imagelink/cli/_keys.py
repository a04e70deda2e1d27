"""``imagelink key``: manages publishers' API keys, with an operator's key."""

import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, moment, print_json, print_table
from imagelink.types import ApiKey

app = typer.Typer(help="Manage API keys (with an operator's key).", no_args_is_help=True)

MAX_DAYS = 36_500


class KeyRole(StrEnum):
    """The roles that a publisher's key may have."""

    scan = "scan"
    publish = "publish"


@app.command()
def create(
    ctx: typer.Context,
    publisher: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[
        KeyRole, typer.Option(help="Scan photos, or manage references too.")
    ] = KeyRole.scan,
    display_name: Annotated[str, typer.Option(help="A name for people.")] = "",
    days: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_DAYS, help="How long it is valid; without end by default."),
    ] = None,
    json: Json = False,
) -> None:
    """Create an API key and print it: this once, and never again."""
    expire_time = datetime.now(UTC) + timedelta(days=days) if days else None
    with connected(ctx) as client:
        described, key = client.create_api_key(
            publisher, role=role.value, display_name=display_name, expire_time=expire_time
        )
    if json:
        shown = {"name": described.name, "role": described.role, "key": key}
        print_json(shown | {"expire_time": described.expire_time})
        return
    print(f"Created {described.name}. Store its key now; it is not shown again:", file=sys.stderr)
    print(key)


@app.command("list")
def list_all(
    ctx: typer.Context,
    publisher: Annotated[str, typer.Argument(help="Whose keys.")],
    json: Json = False,
) -> None:
    """List a publisher's API keys, revoked and expired ones included."""
    with connected(ctx) as client:
        keys = client.list_api_keys(publisher)
    if json:
        for key in keys:
            print_json(key)
        return
    print_table(("key", "role", "name", "created", "expires", "revoked"), map(_row, keys))


@app.command()
def revoke(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="The key's name, or its id with --publisher.")],
    publisher: Annotated[str | None, typer.Option(help="Whose key it is.")] = None,
) -> None:
    """Revoke an API key: from now on it opens nothing."""
    with connected(ctx) as client:
        revoked = client.revoke_api_key(key, publisher=publisher)
    print(f"Revoked {revoked.name}.")


def _row(key: ApiKey) -> tuple[str, ...]:
    times = moment(key.create_time), moment(key.expire_time), moment(key.revoke_time)
    return (key.id, key.role, key.display_name, *times)
