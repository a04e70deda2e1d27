"""``imagelink publisher``: manages publishers, with an operator's key."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, moment, print_fields, print_json, print_table
from imagelink.types import Publisher

app = typer.Typer(help="Manage publishers (with an operator's key).", no_args_is_help=True)

PublisherId = Annotated[str, typer.Argument(metavar="PUBLISHER", help="The publisher's id.")]
Budget = Annotated[float | None, typer.Option(help="Share of foreign photos that may be matched.")]
Weight = Annotated[int | None, typer.Option(help="How many scans are its turn where scans wait.")]
ScanQuota = Annotated[
    float | None, typer.Option(help="Scans a second at each scanner; 0 for no limit.")
]
ReferenceQuota = Annotated[int | None, typer.Option(help="References; 0 for no limit.")]
KeptScans = Annotated[
    int | None,
    typer.Option(help="Photos of scans that it agrees to have kept, at most 1000; 0 for none."),
]


@app.command()
def create(
    ctx: typer.Context,
    publisher: PublisherId,
    display_name: Annotated[str, typer.Option(help="A name for people.")] = "",
    false_accept_budget: Budget = None,
    scan_weight: Weight = None,
    max_scans_per_second: ScanQuota = None,
    max_references: ReferenceQuota = None,
    max_kept_scans: KeptScans = None,
    json: Json = False,
) -> None:
    """Create a publisher."""
    with connected(ctx) as client:
        created = client.create_publisher(
            publisher,
            display_name=display_name,
            false_accept_budget=false_accept_budget,
            scan_weight=scan_weight,
            max_scans_per_second=max_scans_per_second,
            max_references=max_references,
            max_kept_scans=max_kept_scans,
        )
    _print(created, json)


@app.command()
def update(
    ctx: typer.Context,
    publisher: PublisherId,
    display_name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    false_accept_budget: Budget = None,
    scan_weight: Weight = None,
    max_scans_per_second: ScanQuota = None,
    max_references: ReferenceQuota = None,
    max_kept_scans: KeptScans = None,
    json: Json = False,
) -> None:
    """Change what is given of a publisher."""
    _update(
        ctx,
        publisher,
        json,
        display_name=display_name,
        false_accept_budget=false_accept_budget,
        scan_weight=scan_weight,
        max_scans_per_second=max_scans_per_second,
        max_references=max_references,
        max_kept_scans=max_kept_scans,
    )


@app.command("list")
def list_all(ctx: typer.Context, json: Json = False) -> None:
    """List all publishers."""
    with connected(ctx) as client:
        publishers = list(client.list_publishers())
    if json:
        for publisher in publishers:
            print_json(publisher)
        return
    print_table(
        ("publisher", "name", "state", "gallery version"),
        ((each.id, each.display_name, _state(each), each.gallery_version) for each in publishers),
    )


@app.command()
def show(ctx: typer.Context, publisher: PublisherId, json: Json = False) -> None:
    """Show a publisher."""
    with connected(ctx) as client:
        found = client.get_publisher(publisher)
    _print(found, json)


@app.command()
def suspend(ctx: typer.Context, publisher: PublisherId, json: Json = False) -> None:
    """Refuse a publisher's keys until it is resumed."""
    _update(ctx, publisher, json, suspended=True)


@app.command()
def resume(ctx: typer.Context, publisher: PublisherId, json: Json = False) -> None:
    """Accept a suspended publisher's keys again."""
    _update(ctx, publisher, json, suspended=False)


@app.command()
def delete(
    ctx: typer.Context,
    publisher: PublisherId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a publisher with its keys, references and images."""
    if not yes:
        typer.confirm(f"Delete {publisher} and all of its references?", abort=True, err=True)
    with connected(ctx) as client:
        deleted = client.delete_publisher(publisher)
    print(f"Deleted {publisher} with {deleted.references_deleted} references.")
    print(f"Receipt: {deleted.erasure_receipt}")


@app.command("export")
def export_gallery(
    ctx: typer.Context,
    publisher: PublisherId,
    file: Annotated[Path, typer.Argument(help="The archive to write.", dir_okay=False)],
) -> None:
    """Export a publisher's gallery as an archive."""
    with connected(ctx) as client:
        client.export_gallery(publisher, file)
    print(f"Exported {publisher} to {file}: {file.stat().st_size:,} bytes.")


@app.command("import")
def import_gallery(
    ctx: typer.Context,
    publisher: PublisherId,
    file: Annotated[Path, typer.Argument(help="The archive.", dir_okay=False)],
) -> None:
    """Import an archive; references that are there already are left as they are."""
    with connected(ctx) as client:
        result = client.import_gallery(publisher, file)
    print(f"{result.imported_count} imported, {result.kept_count} already there.")
    for reference, error in result.failures.items():
        print(f"{reference}: {' '.join(str(error).split())}", file=sys.stderr)
    if not result:
        raise typer.Exit(1)


def _update(ctx: typer.Context, publisher: str, json: bool, **changes: Any) -> None:
    with connected(ctx) as client:
        updated = client.update_publisher(publisher, **changes)
    _print(updated, json)


def _print(publisher: Publisher, json: bool) -> None:
    if json:
        print_json(publisher)
        return
    print_fields(
        publisher=publisher.id,
        name=publisher.display_name,
        state=_state(publisher),
        false_accept_budget=f"{publisher.false_accept_budget:g}",
        scan_weight=publisher.scan_weight,
        max_scans_per_second=_quota(publisher.max_scans_per_second),
        max_references=_quota(publisher.max_references),
        max_kept_scans=publisher.max_kept_scans,
        gallery_version=publisher.gallery_version,
        created=moment(publisher.create_time),
    )


def _state(publisher: Publisher) -> str:
    return "suspended" if publisher.suspended else "active"


def _quota(limit: float) -> str:
    return f"{limit:,}" if limit else "no limit"
