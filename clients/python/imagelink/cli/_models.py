"""``imagelink model``: model versions, and how they come into service, with an operator's key."""

from pathlib import Path
from typing import Annotated

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, moment, print_fields, print_json, print_table
from imagelink.models import Model

app = typer.Typer(
    help="Manage model versions and roll them out (with an operator's key).", no_args_is_help=True
)

Version = Annotated[str, typer.Argument(metavar="VERSION", help="The model version.")]


@app.command("list")
def list_all(ctx: typer.Context, json: Json = False) -> None:
    """List all model versions, the newest first."""
    with connected(ctx) as client:
        models = client.list_models()
    if json:
        for model in models:
            print_json(model)
        return
    print_table(
        ("version", "state", "architecture", "dimension", "registered"),
        (
            (each.version, each.state, each.architecture, each.dimension, moment(each.create_time))
            for each in models
        ),
    )


@app.command()
def show(ctx: typer.Context, version: Version, json: Json = False) -> None:
    """Show a model version."""
    with connected(ctx) as client:
        found = client.get_model(version)
    _print(found, json)


@app.command()
def register(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A bundle that `training publish` wrote.")],
    json: Json = False,
) -> None:
    """Register a model version; one that is registered already stays as it is."""
    with connected(ctx) as client:
        registered = client.register_model(folder)
    _print(registered, json)


@app.command()
def delete(
    ctx: typer.Context,
    version: Version,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model version that serves nobody, with all features that it made."""
    if not yes:
        typer.confirm(f"Delete {version} and all features that it made?", abort=True, err=True)
    with connected(ctx) as client:
        client.delete_model(version)
    print(f"Deleted {version}.")


def _print(model: Model, json: bool) -> None:
    if json:
        print_json(model)
        return
    print_fields(
        version=model.version,
        state=model.state,
        architecture=model.architecture,
        dimension=model.dimension,
        trained_on=model.trained_on,
        parent=model.parent,
        code_commit=model.code_commit,
        registered=moment(model.create_time),
        size=f"{model.size_bytes:,} bytes",
    )
    if model.metrics:
        rows = ((name, f"{value:.4g}") for name, value in sorted(model.metrics.items()))
        print_table(("metric", "value"), rows)
