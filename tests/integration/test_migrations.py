import asyncio
from pathlib import Path

import psycopg
import pytest

from indexing import migrations
from indexing.errors import DatabaseNewer, DatabaseUnavailable
from indexing.migrations import check, migrate, pending

FOLDER = Path(migrations.__file__).with_name("sql") / "migrations"
ALL = sorted(file.stem for file in FOLDER.glob("*.sql"))


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'public'"
        )
        return {name for (name,) in rows}


async def test_migrates_an_empty_database_once(empty_dsn: str) -> None:
    assert await pending(empty_dsn) == ALL
    assert tables(empty_dsn) == set()  # asking changes nothing

    assert await migrate(empty_dsn) == ALL

    assert {"publisher", "reference", "change", "schema_migration"} <= tables(empty_dsn)
    assert await pending(empty_dsn) == []
    assert await migrate(empty_dsn) == []


async def test_concurrent_starters_apply_each_migration_once(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_dsn) for _ in range(8)))

    assert sorted(applied) == [[]] * 7 + [ALL]


async def test_a_failing_migration_leaves_those_before_it(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "0001_good": b"create table good (); create table also_good ()",
        "0002_bad": b"create table half_done (); select no_such_column",
        "0003_never": b"create table never ()",
    }
    monkeypatch.setattr(migrations, "_migrations", lambda: files)

    with pytest.raises(psycopg.errors.UndefinedColumn):
        await migrate(empty_dsn)

    assert tables(empty_dsn) == {"good", "also_good", "schema_migration"}
    assert await pending(empty_dsn) == ["0002_bad", "0003_never"]


async def test_no_database_is_unavailable(tmp_path: Path) -> None:
    nowhere = f"postgresql://postgres@/postgres?host={tmp_path}"
    with pytest.raises(DatabaseUnavailable):
        await migrate(nowhere)
    with pytest.raises(DatabaseUnavailable):
        await pending(nowhere)


async def test_a_newer_database_is_refused_by_name(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("insert into schema_migration (name) values ('9999_later')")
    with pytest.raises(DatabaseNewer, match="9999_later"):
        await check(postgres_dsn)
    # A server may start on it, as after a rollback of its version.
    assert await pending(postgres_dsn) == []
    assert await migrate(postgres_dsn) == []
