"""``imagelink explain``: why a photo did or did not match."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from imagelink.cli._app import connected
from imagelink.cli._output import Json, print_json, print_table
from imagelink.cli._references import Owner
from imagelink.types import Explanation, ExplanationResult


def explain(
    ctx: typer.Context,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The photo.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Explain only this one: its resource name, or its id with --publisher."),
    ] = None,
    publisher: Owner = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder for the pictures.")
    ] = Path("explanation"),
    min_gallery_version: Annotated[
        int, typer.Option(min=0, help="Wait until the gallery has this version.")
    ] = 0,
    json: Json = False,
) -> None:
    """Explain why references were found in a photo or not, with pictures."""
    with connected(ctx) as client:
        result = client.explain(
            photo,
            reference=reference,
            publisher=publisher,
            min_gallery_version=min_gallery_version,
        )
        files = [_written(output, photo, each) for each in result.explanations]
    if json:
        print_json(_record(result, files))
    else:
        _print(result, files)


def _written(folder: Path, photo: Path, explanation: Explanation) -> Path | None:
    if not explanation.picture:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{photo.stem}-{explanation.reference_id}.jpg"
    file.write_bytes(explanation.picture)
    return file


def _record(result: ExplanationResult, files: list[Path | None]) -> dict[str, object]:
    record = dataclasses.asdict(result)
    for explanation, file in zip(record["explanations"], files, strict=True):
        explanation["picture"] = str(file) if file else None
    return record


def _print(result: ExplanationResult, files: list[Path | None]) -> None:
    if result.explanations:
        rows = map(_row, result.explanations, files)
        columns = "reference", "verdict", "probability", "needed", "inliers", "coverage", "picture"
        print_table(columns, rows)
    if result.no_match_reason:
        print(f"No match: {result.no_match_reason.explanation}.")


def _row(explanation: Explanation, file: Path | None) -> tuple[object, ...]:
    name, verdict = explanation.reference_id, explanation.verdict.explanation
    evidence = explanation.evidence
    if evidence is None:
        return (name, verdict, "", "", "", "", file or "")
    return (
        name,
        verdict,
        f"{explanation.probability:.3f}",
        f"{explanation.threshold:.3f}",
        f"{evidence.inliers}/{evidence.matches}",
        f"{evidence.coverage:.0%}",
        file or "",
    )
