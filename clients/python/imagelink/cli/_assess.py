"""``imagelink assess``: how well pictures would scan, before they are registered."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from imagelink.cli._app import connected, explain
from imagelink.cli._output import Json, print_json, print_table
from imagelink.errors import ImageLinkError, PermissionDenied, Unauthenticated
from imagelink.types import Assessment


def assess(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Clean pictures.")],
    json: Json = False,
) -> None:
    """Say how well pictures would scan; nothing is registered."""
    failed = False
    with connected(ctx) as client:
        for file in files:
            try:
                assessment = client.assess_image(file)
            except (Unauthenticated, PermissionDenied):
                raise
            except (ImageLinkError, OSError) as error:
                failed = True
                _print_error(file, explain(error, ctx.obj), json)
                continue
            if json:
                print_json({"file": str(file), **dataclasses.asdict(assessment)})
            else:
                _print(file, assessment)
    if failed:
        raise typer.Exit(1)


def _print_error(file: Path, error: str, json: bool) -> None:
    if json:
        print_json({"file": str(file), "error": error})
    else:
        print(f"{file}: {error}", file=sys.stderr)


def _print(file: Path, assessment: Assessment) -> None:
    print(f"{file}: {summary(assessment)}\n")
    rows = [
        (each.condition.value, f"{each.frame_share:.0%}", f"{each.detection_rate:.0%}")
        for each in assessment.conditions
    ]
    print_table(("photos", "of the frame", "recognised"), rows)
    print()
    _print_sizes(assessment)
    for duplicate in assessment.duplicates:
        print(f"Already registered as {duplicate.reference_id}.")
    for rival in assessment.rivals:
        taken = f", for which {rival.wrong_share:.0%} of the photos were taken"
        print(f"Resembles {rival.reference_id}{taken if rival.wrong_share else ''}.")
    for issue in assessment.issues:
        print(f"- {issue.advice}")
    print()


def summary(assessment: Assessment) -> str:
    """An assessment in a few words."""
    rate, count = assessment.detection_rate, assessment.view_count
    kinds = ", ".join(issue.kind.replace("_", " ") for issue in assessment.issues)
    return f"recognised in {rate:.0%} of {count} rendered photos" + (f" ({kinds})" if kinds else "")


def _print_sizes(assessment: Assessment) -> None:
    if not assessment.min_print_sizes:
        print("No print size will do: it is not recognised reliably even close up.")
        return
    print("To be recognised, print it at least so large:")
    rows = [
        (f"{size.distance_m:g} m", f"{size.width_cm:.0f} x {size.height_cm:.0f} cm")
        for size in assessment.min_print_sizes
    ]
    print_table(("from", "size"), rows)
