"""``imagelink reference``: lists, shows and changes references."""

from typing import Annotated

import typer

from imagelink.cli._app import connected, fail
from imagelink.cli._output import Json, moment, print_fields, print_json, print_table
from imagelink.types import Reference

app = typer.Typer(help="List, show and change references.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE", help="The reference's resource name, or its id with --publisher."
    ),
]
Owner = Annotated[
    str | None, typer.Option("--publisher", envvar="IMAGELINK_PUBLISHER", help="Whose it is.")
]


@app.command("list")
def list_all(
    ctx: typer.Context,
    conditions: Annotated[
        str,
        typer.Option(
            "--filter",
            help="Only those that pass, such as 'active = false AND id = \"spring-*\"'.",
        ),
    ] = "",
    publisher: Owner = None,
    json: Json = False,
) -> None:
    """List references."""
    with connected(ctx) as client:
        references = client.list_references(filter=conditions, publisher=publisher)
        if json:
            for reference in references:
                print_json(reference)
            return
        rows = [(each.id, each.link, _state(each), len(each.images)) for each in references]
    print_table(("reference", "link", "state", "images"), rows)


@app.command()
def show(ctx: typer.Context, name: Name, publisher: Owner = None, json: Json = False) -> None:
    """Show a reference."""
    with connected(ctx) as client:
        reference = client.get_reference(name, publisher=publisher)
    _print(reference, json)


@app.command()
def update(
    ctx: typer.Context,
    name: Name,
    link: Annotated[str | None, typer.Option(help="What a scan opens.")] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Repeatable; replaces all there was."),
    ] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Whether scans find it.")
    ] = None,
    publisher: Owner = None,
    json: Json = False,
) -> None:
    """Change the link, the metadata or the active state of a reference."""
    if link is None and not metadata and active is None:
        fail("There is nothing to change: give --link, --metadata, --active or --inactive.")
    entries = _entries(metadata) if metadata else None
    with connected(ctx) as client:
        written = client.update_reference(
            name, link=link, metadata=entries, active=active, publisher=publisher
        )
    _print(written.reference, json)


@app.command()
def delete(
    ctx: typer.Context,
    name: Name,
    publisher: Owner = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a reference with its images."""
    if not yes:
        typer.confirm(f"Delete {name}?", abort=True, err=True)
    with connected(ctx) as client:
        deleted = client.delete_reference(name, publisher=publisher)
    print(f"Deleted {name}; the gallery is at version {deleted.gallery_version}.")
    print(f"Receipt: {deleted.erasure_receipt}")


def _entries(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            fail(f"'{pair}' is no metadata: write KEY=VALUE.")
    return dict(pair.split("=", 1) for pair in pairs)


def _print(reference: Reference, json: bool) -> None:
    if json:
        print_json(reference)
        return
    print_fields(
        reference=reference.name,
        link=reference.link,
        state=_state(reference),
        metadata=", ".join(f"{key}={value}" for key, value in reference.metadata.items()),
        images=", ".join(
            f"{image.image_id} ({image.width}x{image.height})" for image in reference.images
        ),
        created=moment(reference.create_time),
        updated=moment(reference.update_time),
    )


def _state(reference: Reference) -> str:
    return "active" if reference.active else "inactive"
