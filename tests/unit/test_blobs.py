import asyncio
from pathlib import Path

import pytest

from indexing.blobs import BlobStore, image_key


@pytest.fixture(params=["memory", "directory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "memory":
        return BlobStore.from_url("memory://")
    return BlobStore.from_url((tmp_path / "not yet" / "there").as_uri())


async def test_gives_back_what_was_put(blobs: BlobStore) -> None:
    await blobs.put("images/acme/1", b"\x00picture\xff")
    await blobs.put("images/acme/empty", b"")

    assert await blobs.get("images/acme/1") == b"\x00picture\xff"
    assert await blobs.get("images/acme/empty") == b""


async def test_put_replaces(blobs: BlobStore) -> None:
    await blobs.put("key", b"first, longer")
    await blobs.put("key", b"second")

    assert await blobs.get("key") == b"second"


async def test_missing_blob_is_an_error(blobs: BlobStore) -> None:
    with pytest.raises(FileNotFoundError):
        await blobs.get("nothing")


async def test_delete_skips_what_is_not_there(blobs: BlobStore) -> None:
    keys = [f"images/acme/{number}" for number in range(40)]
    for key in keys:
        await blobs.put(key, b"x")
    await blobs.put("images/other/1", b"kept")

    await blobs.delete(["missing/first", *keys, "missing/last"])
    await blobs.delete(keys)
    await blobs.delete([])

    for key in keys:
        with pytest.raises(FileNotFoundError):
            await blobs.get(key)
    assert await blobs.get("images/other/1") == b"kept"


async def test_readers_see_a_whole_blob_while_it_is_replaced(blobs: BlobStore) -> None:
    versions = {bytes([value]) * 1_000_000 for value in range(4)}
    await blobs.put("key", b"\x00" * 1_000_000)

    async def write() -> None:
        for _ in range(5):
            for version in versions:
                await blobs.put("key", version)

    writing = asyncio.create_task(write())
    while not writing.done():
        assert await blobs.get("key") in versions
    await writing


async def test_directory_survives_reopening_and_keeps_no_trace_of_deleted(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    await BlobStore.from_url(url).put(image_key("acme", "1"), b"picture")

    again = BlobStore.from_url(url)
    assert await again.get("images/acme/1") == b"picture"
    await again.delete([image_key("acme", "1")])

    assert not (tmp_path / "images").exists()


async def test_lists_the_keys_below_a_prefix(blobs: BlobStore) -> None:
    for key in ("images/acme/1", "images/acme/2", "images/acme-2/3", "images/other/4"):
        await blobs.put(key, b"x")

    assert sorted(await blobs.keys("images/acme")) == ["images/acme/1", "images/acme/2"]
    assert await blobs.keys("images/nobody") == []


def test_unknown_url_is_refused() -> None:
    with pytest.raises(Exception, match="gopher"):
        BlobStore.from_url("gopher://hole")
