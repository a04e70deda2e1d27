"""Backups and restores by their commands: what comes back, what stays erased, what is refused."""

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from indexing.blobs import BlobStore, image_key
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_scans import KeptScanStore
from indexing.gallery_statements import transaction
from indexing.migrations import migrate
from indexing.reference import Reference, ReferenceImage, Role
from server import backups, maintenance
from server.__main__ import main
from server.backups import Storage, back_up
from server.erasing import Eraser
from tests.conftest import Postgres
from tests.integration.references import MODEL, a_reference

PICTURES = {name: f"picture of {name}".encode() for name in ("one", "two", "three")}


class Installation:
    """A database and a folder of blobs, with what a server does to them."""

    def __init__(self, dsn: str, blobs: Path) -> None:
        self.dsn = dsn
        self.folder = blobs
        self.blobs = BlobStore.from_url(blobs.as_uri())

    def do(self, work: Callable[[AsyncConnectionPool], Awaitable[Any]]) -> Any:
        async def done() -> Any:
            pool = await open_pool(self.dsn, max_size=2)
            try:
                return await work(pool)
            finally:
                await pool.close()

        return asyncio.run(done())

    def fill(self) -> None:
        """Two publishers; three references each, and a model version."""

        async def filled(pool: AsyncConnectionPool) -> None:
            store = GalleryStore(pool)
            for file in ("manifest.json", "model.safetensors"):
                await self.blobs.put(f"models/{MODEL}/{file}", file.encode())
            async with transaction(pool) as connection:
                await connection.execute("insert into model values (%s, '{}', 2)", [MODEL])
            for publisher in ("acme", "other"):
                await store.create_publisher(publisher, publisher, 0.001)
                await store.create_api_key(publisher, f"key-{publisher}", Role.SCAN, bytes(32), "")
                for name, picture in PICTURES.items():
                    await self.register(store, publisher, name, picture)

        asyncio.run(migrate(self.dsn))
        self.do(filled)

    async def register(
        self, store: GalleryStore, publisher: str, name: str, picture: bytes
    ) -> None:
        new = a_reference(name, publisher)
        image = ReferenceImage(new.image.id, 640, 480, hashlib.sha256(picture).digest())
        await self.blobs.put(image_key(publisher, image.id), picture)
        await store.register(a_reference(name, publisher, image=image))

    def erase(self, publisher: str, reference: str | None = None) -> str:
        async def erased(pool: AsyncConnectionPool) -> str:
            eraser = Eraser(GalleryStore(pool), ErasureStore(pool), self.blobs)
            if reference is None:
                return (await eraser.delete_publisher(publisher)).id
            return (await eraser.delete_reference(publisher, reference)).id

        return str(self.do(erased))

    def keep_scan(self, publisher: str, answered: str) -> None:
        """Keeps a scan of a publisher that agrees to it, named by its answer."""

        async def kept(pool: AsyncConnectionPool) -> None:
            agreed = await GalleryStore(pool).update_publisher(publisher, max_kept_scans=9)
            assert await KeptScanStore(pool).keep(
                agreed, answered, [answered], MODEL, lambda key: self.blobs.put(key, b"photo")
            )

        self.do(kept)

    def kept_scans(self) -> list[str]:
        return [scan.key for scan in self.do(lambda pool: KeptScanStore(pool).sample(9))]

    def references(self, publisher: str = "acme") -> list[Reference]:
        return list(self.do(lambda pool: GalleryStore(pool).list_references(publisher, None, 10)))

    def names(self, publisher: str = "acme") -> list[str]:
        return [reference.id for reference in self.references(publisher)]

    def files(self) -> dict[str, bytes]:
        return {
            str(file.relative_to(self.folder)): file.read_bytes()
            for file in self.folder.rglob("*")
            if file.is_file()
        }

    def receipts(self, publisher: str = "acme") -> list[str]:
        found = self.do(lambda pool: ErasureStore(pool).receipts(publisher, None, 10))
        return [receipt.erasure.id for receipt in found]

    def file_of(self, name: str, publisher: str = "acme") -> Path:
        (image,) = next(each for each in self.references(publisher) if each.id == name).images
        return self.folder / image_key(publisher, image.id)


@pytest.fixture
def installation(postgres: Postgres, tmp_path: Path) -> Installation:
    made = Installation(postgres.create_database(), tmp_path / "blobs")
    made.fill()
    return made


@pytest.fixture
def empty(postgres: Postgres, tmp_path: Path) -> Installation:
    return Installation(postgres.create_database(), tmp_path / "restored")


class Command:
    """``python -m server COMMAND`` on an installation, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, on: Installation, *arguments: object) -> tuple[object, str]:
        """Its exit status, or the message that it ended with, and its output."""
        words = ["python -m server", *map(str, arguments)]
        with self._monkeypatch.context() as patch:
            patch.setenv("IMAGELINK_DATABASE_URL", on.dsn)
            patch.setenv("IMAGELINK_BLOB_URL", on.folder.as_uri())
            patch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as ended:
                main()
        told = self._capsys.readouterr()
        return ended.value.code, told.out + told.err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "all backups"


def backed_up(command: Command, installation: Installation, target: Path) -> Path:
    status, told = command(installation, "backup", target)
    assert status == 0, told
    return sorted(path for path in target.iterdir() if path.is_dir())[-1]


# What comes back


def test_a_restored_installation_is_the_same(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    assert command(empty, "restore", backup) == (
        0,
        "Restored 8 files. Erased again: 0 receipts.\n",
    )
    for publisher in ("acme", "other"):
        assert empty.references(publisher) == installation.references(publisher)
    assert empty.files() == installation.files()
    keys = empty.do(lambda pool: GalleryStore(pool).list_api_keys("acme"))
    assert [key.id for key in keys] == ["key-acme"]
    delta = empty.do(lambda pool: GalleryStore(pool).changes_since("acme", MODEL, 0))
    assert len(delta.changed) == 3


def test_kept_scans_are_in_no_backup(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    installation.keep_scan("acme", "one")
    assert installation.kept_scans() == ["scans/acme/one"]
    backup = backed_up(command, installation, target)
    assert not (backup / "scans").exists()
    assert command(empty, "restore", backup)[0] == 0
    assert empty.kept_scans() == []
    assert not any("scans" in file for file in empty.files())
    agreed = empty.do(lambda pool: GalleryStore(pool).get_publisher("acme"))
    assert agreed.max_kept_scans == 9, "the consent is"


def test_indexes_of_before_take_nothing_for_theirs(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    command(empty, "restore", backup)

    def born(each: Installation) -> Any:
        return each.do(lambda pool: GalleryStore(pool).get_publisher("acme")).create_time

    assert born(empty) < born(installation)


def test_a_tables_owner_that_is_no_superuser_backs_up_and_restores(
    command: Command, installation: Installation, postgres: Postgres, target: Path, tmp_path: Path
) -> None:
    backup = backed_up(command, installation, target)
    for number in (1, 2):
        dsn = postgres.create_database()
        with psycopg.connect(dsn, autocommit=True) as connection:
            name = connection.info.dbname.encode()
            if number == 1:
                connection.execute("drop role if exists keeper")
                connection.execute("create role keeper login")
            connection.execute(b"alter database " + name + b" owner to keeper")
        owned = psycopg.conninfo.make_conninfo(dsn, user="keeper")
        restored = Installation(owned, tmp_path / f"owned-{number}")
        assert command(restored, "restore", backup)[0] == 0
        assert restored.names() == ["one", "three", "two"]
        backup = backed_up(command, restored, tmp_path / f"of-owned-{number}")


def test_sums_are_what_sha256sum_checks(
    command: Command, installation: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    checked = set()
    for sums in [*backup.glob("SHA256SUMS-*"), backup / "manifest.json.sha256"]:
        for line in sums.read_text().splitlines():
            digest, _, name = line.partition("  ")
            assert hashlib.sha256((backup / name).read_bytes()).hexdigest() == digest
            checked.add(backup / name)
    rest = {file for file in backup.rglob("*") if file.is_file()} - checked
    assert all(file.name.startswith(("SHA256SUMS-", "manifest.json.sha256")) for file in rest)


# What stays erased


def test_what_was_erased_before_or_after_the_backup_stays_erased(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    before = installation.erase("acme", "one")
    backup = backed_up(command, installation, target)
    after = [installation.erase("acme", "two"), installation.erase("other")]
    assert command(installation, "erasures", target) == (
        0,
        f"{target} has 3 erasure receipts.\n",
    )
    status, told = command(empty, "restore", backup)
    assert (status, told) == (0, "Restored 3 files. Erased again: 2 receipts.\n")
    assert empty.names() == ["three"]
    assert empty.receipts() == [before, after[0]]
    assert empty.receipts("other") == [after[1]]
    assert sorted(empty.files()) == sorted(installation.files())
    # Restored as it is, nothing of it is known to be erased.
    alone = shutil.copytree(backup, target.parent / "alone" / backup.name)
    again = Installation(create_like(empty), target.parent / "again")
    command(again, "restore", alone)
    assert again.names() == ["three", "two"]


def test_receipts_beside_the_backups_are_never_lost(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    installation.erase("acme", "two")
    command(installation, "erasures", target)
    alone = shutil.copytree(backup, target.parent / "alone" / backup.name)
    command(empty, "restore", alone)
    empty.erase("acme", "three")
    command(empty, "erasures", target)
    # Of both lives: also where the first backup is restored again.
    third = Installation(create_like(empty), target.parent / "third")
    command(third, "restore", backup)
    assert third.names() == ["one"]


def test_receipts_are_applied_to_a_database_that_came_back_otherwise(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    command(empty, "restore", backup)
    files = {file for file in empty.files() if "images" in file}
    for publisher, answered in (("acme", "one"), ("acme", "two"), ("other", "one")):
        empty.keep_scan(publisher, answered)
    erased = [installation.erase("acme", "two"), installation.erase("other")]
    command(installation, "erasures", target)
    assert command(empty, "erasures", target, "--apply") == (0, "Erased again: 2 receipts.\n")
    assert empty.names() == ["one", "three"]
    assert empty.receipts() + empty.receipts("other") == erased

    async def files_deleted(pool: AsyncConnectionPool) -> int:
        return await ErasureStore(pool).delete_blobs(empty.blobs.delete)

    assert empty.kept_scans() == ["scans/acme/one"]
    assert empty.do(files_deleted) == 6
    assert [file for file in empty.files() if "scans" in file] == ["scans/acme/one"]
    left = {file for file in empty.files() if "images" in file}
    assert left == {str(empty.file_of(name).relative_to(empty.folder)) for name in ("one", "three")}
    assert left < files


def test_an_erasure_has_its_confirmations_again(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    erasure = installation.erase("acme", "two")

    async def confirmed(pool: AsyncConnectionPool) -> None:
        await ErasureStore(pool).see_replica("replica-1")
        await ErasureStore(pool).confirm("replica-1", [erasure])
        await ErasureStore(pool).complete()

    installation.do(confirmed)
    command(installation, "erasures", target)
    command(empty, "restore", backup)

    def receipt(each: Installation) -> Any:
        return each.do(lambda pool: ErasureStore(pool).receipt("acme", erasure))

    assert receipt(empty) == receipt(installation)
    assert receipt(empty).erasure.complete_time


def test_a_receipt_of_before_scans_were_kept_is_applied_too(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    erasure = installation.erase("acme", "two")
    command(installation, "erasures", target)
    receipts = target / "erasures.jsonl"
    receipt = json.loads(receipts.read_text())
    assert receipt.pop("scan_count") == 0
    receipts.write_text(json.dumps(receipt) + "\n")
    assert command(empty, "restore", backup)[0] == 0
    found = empty.do(lambda pool: ErasureStore(pool).receipt("acme", erasure))
    assert (found.erasure.references, found.erasure.scans) == (1, 0)


def test_deletions_while_a_backup_is_made(
    command: Command,
    installation: Installation,
    empty: Installation,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = backups._copy_images

    async def delete_first(*arguments: Any) -> None:
        await asyncio.to_thread(installation.erase, "acme", "one")
        with psycopg.connect(installation.dsn, autocommit=True) as connection:
            # An image that is removed has no receipt.
            connection.execute("delete from reference_image where reference_id = 'two'")
            connection.execute("delete from reference where id = 'two'")
        for file in installation.folder.rglob("images/*/*"):
            if file.read_bytes() == PICTURES["two"]:
                file.unlink()
        await copy(*arguments)

    monkeypatch.setattr(backups, "_copy_images", delete_first)
    backup = backed_up(command, installation, target)
    assert command(empty, "restore", backup)[0] == 0
    assert empty.names() == installation.names() == ["three"]
    assert empty.names("other") == installation.names("other") == ["one", "three"]
    assert empty.files() == installation.files()


# What is refused


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("how", [damage, Path.unlink], ids=["changed", "missing"])
@pytest.mark.parametrize(
    "which", ["database.dump", "images/*/*", "erasures.jsonl", "SHA256SUMS-00001", "manifest.json"]
)
def test_a_damaged_backup_is_refused_before_anything_is_written(
    command: Command,
    damageable: tuple[Path, Installation],
    which: str,
    how: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    whole, empty = damageable
    backup = shutil.copytree(whole, tmp_path / "copy" / whole.name)
    file = sorted(backup.glob(which))[0]
    how(file)
    status, _ = command(empty, "restore", backup)
    name = f"{backup.name}/{file.relative_to(backup)}"
    problem = "It is missing." if how is Path.unlink else "It was changed."
    assert str(status).startswith(f"error: The backup is damaged at {name}: {problem}")
    assert empty.files() == {}
    with psycopg.connect(empty.dsn) as connection:
        tables = connection.execute("select from pg_tables where schemaname = 'public'")
        assert tables.rowcount == 0


@pytest.fixture(scope="module")
def damageable(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Installation]:
    """A backup, and an empty installation, for tests that leave both as they are."""
    folder = tmp_path_factory.mktemp("damageable")
    made = Installation(postgres.create_database(), folder / "blobs")
    made.fill()
    source = Storage(made.dsn, made.blobs, maintenance.PROGRAMS)
    name, _ = asyncio.run(back_up(source, BlobStore.from_url((folder / "backups").as_uri())))
    return folder / "backups" / name, Installation(postgres.create_database(), folder / "restored")


def test_damaged_receipts_beside_the_backups_are_neither_ignored_nor_written_over(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    (target / "erasures.jsonl").write_text("{ cut off")
    for on, words in ((empty, ("restore", backup)), (installation, ("erasures", target))):
        status, _ = command(on, *words)
        assert str(status).startswith("error: The backup is damaged at erasures.jsonl: It is no")
    assert (target / "erasures.jsonl").read_text() == "{ cut off"
    assert empty.files() == {}


def test_a_backup_that_was_not_finished_is_none(
    command: Command, damageable: tuple[Path, Installation], tmp_path: Path
) -> None:
    whole, empty = damageable
    backup = shutil.copytree(whole, tmp_path / whole.name)
    (backup / "manifest.json.sha256").unlink()
    status, _ = command(empty, "restore", backup)
    assert str(status).startswith(f"error: There is no complete backup at {backup.name}: manifest")
    status, _ = command(empty, "restore", tmp_path / "nowhere" / "20260101T000000Z")
    assert "no such folder" in str(status)


def resealed(backup: Path, **changes: object) -> None:
    manifest = json.loads((backup / "manifest.json").read_text()) | changes
    text = json.dumps(manifest).encode()
    (backup / "manifest.json").write_bytes(text)
    seal = f"{hashlib.sha256(text).hexdigest()}  manifest.json\n"
    (backup / "manifest.json.sha256").write_text(seal)


def test_a_backup_of_a_newer_schema_is_refused(
    command: Command, damageable: tuple[Path, Installation], tmp_path: Path
) -> None:
    whole, empty = damageable
    backup = shutil.copytree(whole, tmp_path / whole.name)
    resealed(backup, migrations=["0001_initial", "9999_later"])
    status, _ = command(empty, "restore", backup)
    assert str(status).startswith(
        "error: The backup has migrations that this version does not know"
    )
    assert "9999_later" in str(status)
    assert "0001" not in str(status)
    resealed(backup, format=2)
    assert "format that this version does not know" in str(command(empty, "restore", backup)[0])


def test_nothing_is_restored_over_data(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    backup = backed_up(command, installation, target)
    files = installation.files()
    status, _ = command(installation, "restore", backup)
    assert str(status).startswith("error: The database is not empty")
    mixed = Installation(empty.dsn, installation.folder)
    status, _ = command(mixed, "restore", backup)
    assert str(status).startswith("error: The blob store is not empty")
    assert installation.files() == files


def test_lost_and_damaged_files_are_named_and_the_rest_is_kept(
    command: Command, installation: Installation, empty: Installation, target: Path
) -> None:
    lost, rotten = installation.file_of("one"), installation.file_of("two")
    lost.unlink()
    damage(rotten)
    keys = [str(file.relative_to(installation.folder)) for file in (lost, rotten)]
    status, told = command(installation, "backup", target)
    assert status == 1
    assert all(f"not in it: {key}\n" in told for key in keys)
    (backup,) = (path for path in target.iterdir() if path.is_dir())
    status, told = command(empty, "restore", backup)
    assert status == 1
    assert all(f"not in it: {key}\n" in told for key in keys)
    assert empty.names() == ["one", "three", "two"]
    assert len(empty.files()) == 6


def test_old_backups_go_and_other_folders_stay(
    command: Command, installation: Installation, target: Path
) -> None:
    for name in ("20200101T000000Z", "20200102T000000Z", "notes"):
        (target / name).mkdir(parents=True)
        (target / name / "manifest.json.sha256").write_text("")
    (target / "20200103T000000Z").mkdir()
    (target / "20200103T000000Z" / "database.dump").write_text("unfinished")
    status, told = command(installation, "backup", target, "--keep", 1)
    assert status == 0
    assert "Deleted 20200101T000000Z." in told
    left = sorted(path.name for path in target.iterdir() if path.is_dir())
    assert left[1:] == ["notes"]
    assert left[0] > "2026"


def test_what_is_not_there_is_said(
    command: Command, installation: Installation, empty: Installation, target: Path, tmp_path: Path
) -> None:
    status, _ = command(empty, "backup", target)
    assert str(status).startswith("error: The database lacks the migrations 0001_initial")
    status, _ = command(installation, "backup", target, "--pg-bin", tmp_path)
    assert "pg_dump failed: No such file or directory. Name the folder" in str(status)
    status, _ = command(installation, "backup", "ftp://example.com/backups")
    assert str(status).startswith("error: A blob store or a folder failed: ")
    nowhere = Installation(f"postgresql://postgres@/x?host={tmp_path}", tmp_path / "none")
    for words in (("backup", target), ("erasures", target)):
        status, _ = command(nowhere, *words)
        assert str(status).startswith("error: The database does not answer: try again in a moment.")


def create_like(installation: Installation) -> str:
    """The DSN of another empty database beside an installation's."""
    name = f"again_{hashlib.sha256(installation.dsn.encode()).hexdigest()[:8]}"
    with psycopg.connect(installation.dsn, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    return psycopg.conninfo.make_conninfo(installation.dsn, dbname=name)
