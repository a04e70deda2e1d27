"""What the commands print: tables for people, JSON lines for scripts."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one line for each result.")]


def print_json(value: Any) -> None:
    """Prints a value, or one of the client's dataclasses, as a line of JSON."""
    is_instance = dataclasses.is_dataclass(value) and not isinstance(value, type)
    plain = dataclasses.asdict(value) if is_instance else value
    print(json.dumps(plain, default=_plain, ensure_ascii=False), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows as a table, in which long cells go on in the next line."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def print_fields(**fields: object) -> None:
    """Prints the fields of one thing, each in its line."""
    width = max(map(len, fields)) + 2
    for name, value in fields.items():
        print(f"{name.replace('_', ' '):{width}}{value}")


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is, whatever brackets and colons it has."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def moment(time: datetime | None) -> str:
    """A time for people, in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else ""


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
