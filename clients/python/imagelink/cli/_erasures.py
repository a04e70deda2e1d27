"""``imagelink erasure``: shows what deletions removed."""

from typing import Annotated

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, moment, print_fields, print_json, print_table
from imagelink.erasures import ErasureReceipt

app = typer.Typer(help="Show what deletions removed, and how far they are.", no_args_is_help=True)


@app.command()
def show(
    ctx: typer.Context,
    receipt: Annotated[str, typer.Argument(help="The receipt's name, as the deletion printed it.")],
    json: Json = False,
) -> None:
    """Show the receipt of a deletion."""
    with connected(ctx) as client:
        found = client.get_erasure_receipt(receipt)
    if json:
        print_json(found)
    else:
        _print(found)


@app.command("list")
def list_all(
    ctx: typer.Context,
    publisher: Annotated[str, typer.Argument(help="Whose, also after it was deleted.")],
    json: Json = False,
) -> None:
    """List the receipts of a publisher's deletions."""
    with connected(ctx) as client:
        receipts = list(client.list_erasure_receipts(publisher))
    if json:
        for receipt in receipts:
            print_json(receipt)
        return
    print_table(
        ("receipt", "erased", "asked", "complete"),
        (
            (each.name, each.subject, moment(each.request_time), moment(each.complete_time))
            for each in receipts
        ),
    )


def _print(receipt: ErasureReceipt) -> None:
    print_fields(
        erased=receipt.subject,
        references=receipt.reference_count,
        images=receipt.image_count,
        features=receipt.feature_count,
        kept_scans=receipt.scan_count,
        files=receipt.blob_count,
        asked=moment(receipt.request_time),
        files_removed=moment(receipt.blob_delete_time) or "not yet",
        complete=moment(receipt.complete_time) or "not yet",
    )
    print_table(
        ("index", "state", "confirmed"),
        (
            (each.shard_replica, each.state, moment(each.confirm_time))
            for each in receipt.confirmations
        ),
    )
