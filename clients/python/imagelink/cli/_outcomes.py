"""What ``register`` and ``register-all`` share: what they take, and what became of it."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imagelink.cli._app import Connection, explain, fail
from imagelink.cli._assess import summary
from imagelink.cli._files import slug
from imagelink.cli._output import console
from imagelink.errors import AlreadyExists
from imagelink.types import Assessment, Written

PATIENCE = 5
"""How often an item is tried while the server asks to come back later."""


class Status(StrEnum):
    """What became of a file."""

    REGISTERED = "registered"
    ALREADY_REGISTERED = "already registered"
    FAILED = "failed"


@dataclass(frozen=True)
class Item:
    """A file to register."""

    file: Path
    reference_id: str
    link: str
    assess: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a file, and why if it failed."""

    item: Item
    status: Status
    reference: str = ""
    gallery_version: int = 0
    assessment: Assessment | None = None
    error: str = ""


def template(link_template: str, link: str) -> str:
    """The template of the links, of which just one may be given."""
    if bool(link_template) == bool(link):
        fail("Give either --link-template or --link.")
    if link_template and "{name}" not in link_template:
        fail("The link template lacks {name}: write it in, or give --link for one and the same.")
    return link_template or link


def items_of(files: Sequence[Path], template: str, assess: bool) -> list[Item]:
    """An item for each file, with ids made from the names."""
    if not files:
        fail("There are no JPEG, PNG or WebP files in what was given.")
    ids = [slug(file.stem) for file in files]
    return [
        Item(file, reference_id, template.replace("{name}", reference_id), assess)
        for file, reference_id in zip(files, ids, strict=True)
    ]


def distinct(items: Sequence[Item]) -> tuple[list[Item], list[Outcome]]:
    """The items whose ids differ, and the failures of those that would be a second one's."""
    first: dict[str, Item] = {}
    failed = []
    for item in items:
        other = first.setdefault(item.reference_id, item)
        if other is not item:
            problem = f"Its id '{item.reference_id}' is that of {other.file} too: rename one."
            failed.append(Outcome(item, Status.FAILED, error=problem))
    return list(first.values()), failed


def outcome_of(item: Item, result: Written | Exception, connection: Connection) -> Outcome:
    """What became of an item, by what its registration answered or raised."""
    if isinstance(result, AlreadyExists):
        return Outcome(item, Status.ALREADY_REGISTERED)
    if isinstance(result, Exception):
        return Outcome(item, Status.FAILED, error=explain(result, connection))
    name, version = result.reference.name, result.gallery_version
    return Outcome(item, Status.REGISTERED, name, version, assessment=result.assessment)


def progress(*, hidden: bool) -> Progress:
    """A bar on a terminal, and nothing where stderr is none."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=hidden or not sys.stderr.isatty(),
    )


def record(outcome: Outcome) -> dict[str, object]:
    """An outcome for scripts."""
    record: dict[str, object] = {
        "file": str(outcome.item.file),
        "reference_id": outcome.item.reference_id,
        "status": outcome.status.replace(" ", "_"),
    }
    if outcome.status is Status.REGISTERED:
        record |= {"reference": outcome.reference, "gallery_version": outcome.gallery_version}
    if outcome.assessment:
        record["assessment"] = dataclasses.asdict(outcome.assessment)
    if outcome.error:
        record["error"] = outcome.error
    return record


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Prints for people what was not just registered, and the sums."""
    for outcome in outcomes:
        if outcome.status is Status.ALREADY_REGISTERED:
            print(f"{outcome.item.file}: already registered as {outcome.item.reference_id}")
    for outcome in outcomes:
        if outcome.status is Status.REGISTERED and outcome.item.assess:
            made = summary(outcome.assessment) if outcome.assessment else "registered, not assessed"
            print(f"{outcome.item.file}: {made}")
    for outcome in outcomes:
        if outcome.status is Status.FAILED:
            print(f"{outcome.item.file}: {outcome.error}", file=sys.stderr)
    counts = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{counts[status]} {status}" for status in Status))
