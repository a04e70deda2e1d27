"""Migrations on databases in use: rows stay, and the code before one still works after it.

A new migration brings three things along: its line in ``SHA256SUMS``, ``schemas/rows/NAME.sql`` with
rows for what it made, and ``schemas/statements/NAME.sql`` with statements of the code that came with
it, as ``-- name:`` has them in ``queries.sql``, in an order in which they can run, each ``-- with:``
its parameters. Once the next migration is there the latter stays as it is: it is the code before.
"""

import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from indexing import migrations
from indexing.migrations import known, migrate
from indexing.queries import QUERIES

FOLDER = Path(migrations.__file__).with_name("sql") / "migrations"
SCHEMAS = Path(__file__).with_name("schemas")
# The promise is of those after it; the fifth broke it, before anything was released.
FIRST_KEPT = "0005_row_security"
KEPT = [name for name in known() if name >= FIRST_KEPT]
NAME = re.compile(r"^-- name: (\w+)\n-- with: (.*)$", re.MULTILINE)


def statements(migration: str) -> list[tuple[str, dict[str, object], bytes]]:
    """The name, parameters and text of each statement of the code of a migration."""
    _, *parts = NAME.split((SCHEMAS / "statements" / f"{migration}.sql").read_text())
    return [
        (name, json.loads(given), text.strip().encode())
        for name, given, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


async def migrate_to(dsn: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = migrations._migrations()
    with monkeypatch.context() as patch:
        some = {each: files[each] for each in files if each <= name}
        patch.setattr(migrations, "_migrations", lambda: some)
        await migrate(dsn)


def add_rows(dsn: str, migration: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute((SCHEMAS / "rows" / f"{migration}.sql").read_bytes())


def row_counts(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        return {
            table: connection.execute(f"select count(*) from {table}".encode()).fetchall()[0][0]
            for (table,) in tables.fetchall()
            if table != "schema_migration"
        }


def run_statements(dsn: str, migration: str, publisher: str, number: int) -> None:
    """Do for one publisher all that the code of a migration does, as a server would."""
    images = {f"$image{each}": f"00000000-0000-4000-8000-{number:04}{each:08}" for each in (1, 2)}
    with psycopg.connect(dsn) as connection:
        connection.execute(QUERIES["take_confined_role"])
        connection.execute("select set_config('imagelink.publisher', '*', false)")
        for name, parameters, text in statements(migration):
            given = json.dumps(parameters).replace("$publisher", publisher)
            for image, image_id in images.items():
                given = given.replace(image, image_id)
            values = json.loads(given)
            if "lease" in values:
                values["lease"] = timedelta(seconds=values["lease"])
            cursor = connection.execute(text, values)
            written = name.startswith(("insert", "create", "append", "delete_r", "delete_p"))
            assert not written or cursor.rowcount, f"{name} did nothing."


async def test_each_migration_keeps_the_rows_of_the_schema_before(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in known():
        before = row_counts(empty_dsn)
        await migrate_to(empty_dsn, name, monkeypatch)
        after = row_counts(empty_dsn)
        assert {table: after[table] for table in before} == before
        made = after.keys() - before.keys()
        add_rows(empty_dsn, name)
        assert all(row_counts(empty_dsn)[table] for table in made), "A table has no rows to keep."


@pytest.mark.parametrize("migration", KEPT)
async def test_the_code_before_works_on_the_schema_after(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch, migration: str
) -> None:
    for name in known():
        if name <= migration:
            await migrate_to(empty_dsn, name, monkeypatch)
            add_rows(empty_dsn, name)
    run_statements(empty_dsn, migration, "before", 1)
    for number, name in enumerate([each for each in KEPT if each > migration][:1], start=2):
        await migrate_to(empty_dsn, name, monkeypatch)
        run_statements(empty_dsn, migration, "after", number)


async def test_a_migration_that_breaks_the_code_before_is_found(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = migrations._migrations() | {
        "9999_bad": b"alter table publisher add column owner text not null"
    }
    monkeypatch.setattr(migrations, "_migrations", lambda: files)
    await migrate(empty_dsn)
    with pytest.raises(psycopg.errors.NotNullViolation):
        run_statements(empty_dsn, KEPT[-1], "after", 1)


def test_the_statements_of_the_last_migration_are_those_of_the_code() -> None:
    for name, _, text in statements(known()[-1]):
        assert text == QUERIES[name], f"{name}: copy it to schemas/statements."


def test_released_migrations_never_change() -> None:
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert sums == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FOLDER.glob("*.sql")
    }
