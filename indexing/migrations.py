"""Brings the database's schema up to date: forward only, plain SQL, safe to run everywhere.

A file of ``sql/migrations`` is never edited once it was released (``SHA256SUMS`` has what
they are); a change is a new file. While it runs, and after a rollback, the code before it works
on the same database: it only adds what that code does not need to know, and what nobody uses any
more goes one release later.

The runner is ours because the known ones bring SQLAlchemy or a second database driver.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict

from indexing.errors import DatabaseNewer, DatabaseUnavailable, DatabaseUrlInvalid
from indexing.queries import QUERIES

CONNECT_TIMEOUT = 10
"""Seconds to wait for the database's answer."""


async def migrate(dsn: str) -> list[str]:
    """Apply the migrations that the database lacks and return their names, in order.

    Concurrent callers wait for one another, and the later find nothing to do. Each file
    is one transaction: where one fails, those before it stay. ``dsn`` has to lead to the
    server itself or a session pooler, since the lock is the session's.

    Raises DatabaseUnavailable.
    """
    async with connected(dsn) as connection:
        await connection.execute(QUERIES["lock_migrations"])
        await connection.execute(QUERIES["create_schema_migration"])
        names = await _pending(connection)
        for name in names:
            await _apply(connection, name)
        await _let_confined_role_in(connection)
    return names


async def pending(dsn: str) -> list[str]:
    """Return the names of the migrations that the database lacks, in order; change nothing.

    Raises DatabaseUnavailable.
    """
    async with connected(dsn) as connection:
        return await _pending(connection)


async def check(dsn: str) -> list[str]:
    """Return what ``pending`` does, of a database that has no migrations but ours.

    Raises DatabaseNewer where it has, and DatabaseUnavailable.
    """
    async with connected(dsn) as connection:
        refuse_unknown(await _applied(connection))
        return await _pending(connection)


def refuse_unknown(applied: Iterable[str]) -> None:
    """Raises DatabaseNewer for migrations that are not among ours."""
    if unknown := sorted({*applied} - {*known()}):
        raise DatabaseNewer(names=", ".join(unknown))


def known() -> list[str]:
    """Return the names of all migrations, in order."""
    return sorted(_migrations())


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[AsyncConnection]:
    """A connection of one's own. Raises DatabaseUnavailable, and DatabaseUrlInvalid for a bad DSN."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # What it says may have the password.
        raise DatabaseUrlInvalid from None
    try:
        async with await AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT
        ) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable from error


async def _pending(connection: AsyncConnection) -> list[str]:
    applied = await _applied(connection)
    return [name for name in known() if name not in applied]


async def _applied(connection: AsyncConnection) -> set[str]:
    found = await (await connection.execute(QUERIES["schema_migration_exists"])).fetchone()
    if found != (True,):
        return set()
    cursor = await connection.execute(QUERIES["applied_migrations"])
    return {name for (name,) in await cursor.fetchall()}


async def _apply(connection: AsyncConnection, name: str) -> None:
    async with connection.transaction():
        await connection.execute(_migrations()[name])
        await connection.execute(QUERIES["insert_migration"], {"name": name})


async def _let_confined_role_in(connection: AsyncConnection) -> None:
    """Prepare what ``gallery_statements.confine`` needs where the user is a superuser."""
    if await (await connection.execute(QUERIES["is_superuser"])).fetchone() == (True,):
        await connection.execute(QUERIES["create_confined_role"])
        await connection.execute(QUERIES["grant_to_confined_role"])


def _migrations() -> dict[str, bytes]:
    """Return the statements of each migration by its name, such as ``0001_initial``."""
    folder = files("indexing").joinpath("sql", "migrations")
    return {
        file.name.removesuffix(".sql"): file.read_bytes()
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }
