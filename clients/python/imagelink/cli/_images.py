"""``imagelink image``: adds images to references, and removes them."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, print_json
from imagelink.cli._references import Name, Owner

app = typer.Typer(help="Add images to references, and remove them.", no_args_is_help=True)


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Other sides or variants, or real photos."),
    ],
    publisher: Owner = None,
    json: Json = False,
) -> None:
    """Add images to a reference: a scan that shows any of them finds it."""
    with connected(ctx) as client:
        for file in files:
            added = client.add_image(name, file, publisher=publisher)
            if json:
                print_json({"file": str(file), **dataclasses.asdict(added)})
            else:
                print(f"{file}: added as {added.image_id}")


@app.command()
def remove(
    ctx: typer.Context,
    name: Name,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image's id.")],
    publisher: Owner = None,
) -> None:
    """Remove an image from a reference, which must have another."""
    with connected(ctx) as client:
        written = client.remove_image(name, image, publisher=publisher)
    print(f"Removed {image}; the gallery is at version {written.gallery_version}.")
