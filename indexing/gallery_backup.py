"""PostgreSQL's part of backups: a dump and what it names, of one moment, and the way back.

The dump is made and loaded by PostgreSQL's own ``pg_dump`` and ``pg_restore``. A restored gallery
takes what was erased after the backup from the receipts, which are kept beside the backups.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from psycopg.types.json import Jsonb

from indexing.errors import DatabaseToolFailed
from indexing.gallery_erasures import erased_files
from indexing.gallery_statements import EVERY_PUBLISHER, FETCH_ROWS, fetch_all, fetch_one
from indexing.migrations import connected
from indexing.queries import QUERIES

# Row security holds for the tables' owner too: the tools see all rows as a statement would.
SEE_ALL = f"-c imagelink.publisher={EVERY_PUBLISHER}"
DUMPED = (
    "--format=custom",
    "--no-owner",
    "--no-privileges",
    "--enable-row-security",
    # They are kept for a month or so, and not in backups for years.
    "--exclude-table-data=kept_scan",
)
LOADED = ("--no-owner", "--no-privileges", "--enable-row-security", "--single-transaction")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the database, whose file the blob store has; ``sha256`` is in hexadecimal."""

    publisher: str
    id: str
    sha256: str


class Moment:
    """The database as of one moment, however long one looks at it."""

    def __init__(self, dsn: str, connection: AsyncConnection, snapshot: str) -> None:
        self._dsn = dsn
        self._connection = connection
        self._snapshot = snapshot

    async def migrations(self) -> list[str]:
        """Return the names of the migrations that it has, in order."""
        rows = await fetch_all(self._connection, "applied_migrations")
        return sorted(name for (name,) in rows)

    async def models(self) -> list[str]:
        """Return the registered model versions."""
        return [version for (version,) in await fetch_all(self._connection, "model_versions")]

    async def images(self) -> AsyncIterator[StoredImage]:
        """Yield every image, by publisher."""
        async with self._connection.cursor("images") as cursor:
            cursor.itersize = FETCH_ROWS
            await cursor.execute(QUERIES["stored_images"])
            async for row in cursor:
                yield StoredImage(*row)

    async def dump(self, tools: Path, file: Path) -> None:
        """Write all of it into ``file`` with the ``pg_dump`` in ``tools``.

        Raises DatabaseToolFailed.
        """
        arguments = (*DUMPED, f"--snapshot={self._snapshot}", f"--file={file}")
        await _run(tools / "pg_dump", self._dsn, *arguments)


@asynccontextmanager
async def moment(dsn: str) -> AsyncIterator[Moment]:
    """The database as it is now. Raises DatabaseUnavailable, also when it goes away."""
    async with _connection(dsn) as connection, connection.transaction():
        await connection.execute(QUERIES["begin_snapshot"])
        row = await fetch_one(connection, "export_snapshot")
        assert row is not None
        yield Moment(dsn, connection, row[0])


async def present_images(dsn: str, ids: Collection[str]) -> set[str]:
    """Return which of some images there are. Raises DatabaseUnavailable."""
    async with _connection(dsn) as connection:
        rows = await fetch_all(connection, "present_images", ids=list(ids))
    return {image for (image,) in rows}


async def present_models(dsn: str) -> set[str]:
    """Return the registered model versions. Raises DatabaseUnavailable."""
    async with _connection(dsn) as connection:
        return {version for (version,) in await fetch_all(connection, "model_versions")}


async def has_tables(dsn: str) -> bool:
    """Whether anything was made in a database. Raises DatabaseUnavailable."""
    async with _connection(dsn) as connection:
        return await fetch_one(connection, "has_tables") == (True,)


async def load_dump(dsn: str, tools: Path, file: Path) -> None:
    """Fill an empty database from a dump, wholly or not at all. Raises DatabaseToolFailed."""
    database = conninfo_to_dict(dsn).get("dbname", "")
    await _run(tools / "pg_restore", dsn, *LOADED, f"--dbname={database}", str(file))


async def erasure_lines(dsn: str) -> dict[str, str]:
    """Return every erasure receipt as a line of JSON, by its id. Raises DatabaseUnavailable."""
    async with _connection(dsn) as connection:
        rows = await fetch_all(connection, "export_erasures")
    return {receipt["id"]: json.dumps(receipt, sort_keys=True) for (receipt,) in rows}


async def finish_restore(
    dsn: str,
    receipts: Iterable[str],
    images: Collection[str] = (),
    models: Collection[str] = (),
) -> int:
    """Erase what ``receipts`` say, and forget ``images`` and ``models``, which have no files.

    To be called before anybody serves the database; indexes of before take nothing of it for
    theirs. Returns how many receipts were new to it. Raises DatabaseUnavailable.
    """
    async with _connection(dsn) as connection, connection.transaction():
        applied = 0
        for receipt in receipts:
            applied += await _erase_again(connection, json.loads(receipt))
        await connection.execute(QUERIES["forget_images"], {"ids": list(images)})
        await connection.execute(QUERIES["forget_references_without_images"])
        await connection.execute(QUERIES["forget_models"], {"versions": list(models)})
        await connection.execute(QUERIES["begin_new_lives"])
    return applied


async def _erase_again(connection: AsyncConnection, receipt: Mapping[str, Any]) -> bool:
    """Whatever has the name was there before the erasure, as the dump does not know of it."""
    row = await fetch_one(connection, "import_erasure", receipt=Jsonb(receipt))
    if row is None:
        return False
    confirmations = Jsonb(receipt["confirmations"])
    await connection.execute(QUERIES["import_confirmations"], {"confirmations": confirmations})
    publisher, reference = row
    # Where the blob store is not a restored one, it may have their files.
    keys = (await erased_files(connection, publisher, reference)).keys
    await connection.execute(QUERIES["insert_erasure_blobs"], {"id": receipt["id"], "keys": keys})
    if reference is None:
        await connection.execute(QUERIES["delete_publisher"], {"id": publisher})
    else:
        await connection.execute(
            QUERIES["delete_reference"], {"publisher": publisher, "reference": reference}
        )
    return True


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[AsyncConnection]:
    async with connected(dsn) as connection:
        await connection.execute(QUERIES["see_every_publisher"])
        yield connection


async def _run(tool: Path, dsn: str, *arguments: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            tool,
            *arguments,
            env=_environment(dsn),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        problem = f"{error.strerror}. Name the folder of PostgreSQL's programs with --pg-bin."
        raise DatabaseToolFailed(tool=tool, problem=problem) from error
    _, said = await process.communicate()
    if process.returncode:
        problem = said.decode(errors="replace").strip()
        raise DatabaseToolFailed(tool=tool.name, problem=problem)


def _environment(dsn: str) -> dict[str, str]:
    """Where the database is, and its password: everybody can read a process's arguments."""
    given = conninfo_to_dict(dsn)
    given["options"] = f"{given.get('options') or ''} {SEE_ALL}".strip()
    names = {
        option.keyword.decode(): option.envvar.decode()
        for option in Conninfo.get_defaults()
        if option.envvar
    }
    return {
        **os.environ,
        **{names[key]: str(value) for key, value in given.items() if key in names},
    }
