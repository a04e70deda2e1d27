"""``python -m server migrate``, with and without ``--check``."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from indexing.migrations import known
from server.__main__ import main
from server.app import locked

Run = Callable[..., tuple[object, str]]
PENDING = "".join(f"Pending: {name}\n" for name in known())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; gives its exit status, or the message that it ended with, and its output."""

    def migrate(*options: object, dsn: str | None = None) -> tuple[object, str]:
        with monkeypatch.context() as patch:
            if dsn:
                patch.setenv("IMAGELINK_DATABASE_URL", dsn)
            patch.setattr(sys, "argv", ["python -m server", "migrate", *map(str, options)])
            with pytest.raises(SystemExit) as ended:
                main()
        return ended.value.code, capsys.readouterr().out

    return migrate


@pytest.fixture
def data() -> Iterator[Path]:
    # Not below pytest's own directory, which the database's user may not enter.
    with tempfile.TemporaryDirectory(prefix="migrate-") as folder:
        yield Path(folder) / "data"


def test_check_names_what_is_pending_and_changes_nothing(run: Run, empty_dsn: str) -> None:
    for _ in range(2):
        assert run("--check", dsn=empty_dsn) == (1, PENDING)
    with psycopg.connect(empty_dsn) as connection:
        assert connection.execute("select to_regclass('schema_migration')").fetchone() == (None,)
    status, told = run(dsn=empty_dsn)
    assert (status, told.splitlines()[-1]) == (0, "The database is up to date.")
    assert [line for line in told.splitlines() if line.startswith("Applied")] == [
        f"Applied {name}." for name in known()
    ]
    assert run("--check", dsn=empty_dsn) == (0, "Nothing is pending.\n")
    assert run(dsn=empty_dsn) == (0, "The database is up to date.\n")


def test_check_makes_no_database(run: Run, data: Path) -> None:
    assert run("--check", "--data-dir", data) == (1, PENDING)
    assert not data.exists()
    assert run("--data-dir", data)[0] == 0
    with locked(data):
        status, _ = run("--data-dir", data)
    assert str(status).startswith(f"error: Another server runs on the data in {data}")


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_a_newer_database_and_none_are_said(
    run: Run, empty_dsn: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    run(dsn=empty_dsn)
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("insert into schema_migration (name) values ('9999_later')")
    status, told = run(*options, dsn=empty_dsn)
    assert (str(status), told) == (
        "error: The database has migrations that this version does not know (9999_later): "
        "run the version of ImageLink that made them, or a later one.",
        "",
    )
    status, _ = run(*options, dsn=f"postgresql://u:p4ssw0rd@/x?host={tmp_path}")
    assert str(status).startswith("error: The database does not answer: try again in a moment.")
    assert "p4ssw0rd" not in str(status)
    status, _ = run(*options, dsn="postgresql//u:p4ssw0rd@host/x")
    assert str(status).startswith("error: The database's URL cannot be read: write it as")
    assert "p4ssw0rd" not in str(status)
