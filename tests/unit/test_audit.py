"""The audit log: what it says of a write, and what it never says."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from imagelink.v1 import gallery_pb2, placement_pb2, publisher_pb2

from indexing.errors import ReferenceAlreadyExists
from indexing.reference import Publisher, Role
from server.audit import audited
from server.auth import Caller, new_key

ACME = Publisher("acme", "", False, 0.001, 0, datetime(2026, 1, 1, tzinfo=UTC))
PUBLISHER = Caller(Role.PUBLISH, ACME, "k1")
OPERATOR = Caller(Role.OPERATE, None, "operator")
NAME = "publishers/acme/references/poster"


class Service:
    """Writes nothing, and ends as it is told."""

    outcome: BaseException | None = None

    @audited
    async def Register(
        self, request: gallery_pb2.RegisterRequest, caller: Caller
    ) -> gallery_pb2.RegisterResponse:
        if self.outcome:
            raise self.outcome
        return gallery_pb2.RegisterResponse(
            reference=gallery_pb2.Reference(name=NAME), gallery_version=7
        )

    @audited
    async def UpdatePublisher(
        self, request: publisher_pb2.UpdatePublisherRequest, caller: Caller
    ) -> publisher_pb2.Publisher:
        return request.publisher

    @audited
    async def RemoveImage(
        self, request: gallery_pb2.RemoveImageRequest, caller: Caller
    ) -> gallery_pb2.RemoveImageResponse:
        return gallery_pb2.RemoveImageResponse(gallery_version=3)

    @audited
    async def AddShard(
        self, request: placement_pb2.AddShardRequest, caller: Caller
    ) -> placement_pb2.Shard:
        return placement_pb2.Shard(name="shards/1")

    @audited
    async def ImportGallery(
        self, requests: AsyncIterator[publisher_pb2.ImportGalleryRequest], caller: Caller
    ) -> publisher_pb2.ImportGalleryResponse:
        chunks = [request.chunk async for request in requests]
        return publisher_pb2.ImportGalleryResponse(imported_count=len(chunks))


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The only line of the log, without how long it took."""
    (text,) = capsys.readouterr().out.splitlines()
    told = json.loads(text)
    assert told.pop("event") == "audit"
    assert 0 <= told.pop("seconds") < 10
    assert datetime.fromisoformat(told.pop("time")).tzinfo is not None
    return told


async def test_a_write_says_who_did_what(capsys: pytest.CaptureFixture[str]) -> None:
    await Service().Register(gallery_pb2.RegisterRequest(), PUBLISHER)
    assert line(capsys) == {
        "method": "Register",
        "key": "k1",
        "role": "publish",
        "publisher": "acme",
        "resource": NAME,
        "gallery_version": 7,
        "outcome": "OK",
    }


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ReferenceAlreadyExists(reference="poster"), "REFERENCE_ALREADY_EXISTS"),
        (RuntimeError("a mistake"), "INTERNAL"),
        (asyncio.CancelledError(), "CANCELLED"),
    ],
)
async def test_a_write_that_fails_says_why_and_of_what(
    capsys: pytest.CaptureFixture[str], error: BaseException, outcome: str
) -> None:
    service = Service()
    service.outcome = error
    asked = gallery_pb2.RegisterRequest(reference_id="poster")
    with pytest.raises(type(error)):
        await service.Register(asked, PUBLISHER)
    told = line(capsys)
    assert told["outcome"] == outcome
    assert told["resource"] == NAME


async def test_the_fields_that_were_changed_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    asked = publisher_pb2.UpdatePublisherRequest(
        publisher=publisher_pb2.Publisher(name="publishers/acme", suspended=True),
        update_mask=FieldMask(paths=["suspended"]),
    )
    await Service().UpdatePublisher(asked, OPERATOR)
    told = line(capsys)
    assert told["fields"] == ["suspended"]
    assert (told["key"], told["role"], told["publisher"]) == ("operator", "operate", None)


async def test_the_image_that_was_removed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    image = "00000000-0000-4000-8000-000000000001"
    await Service().RemoveImage(
        gallery_pb2.RemoveImageRequest(name=NAME, image_id=image), PUBLISHER
    )
    told = line(capsys)
    assert (told["resource"], told["image_id"], told["gallery_version"]) == (NAME, image, 3)


async def test_what_the_answer_names_is_told_where_the_request_names_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    await Service().AddShard(placement_pb2.AddShardRequest(), OPERATOR)
    assert line(capsys)["resource"] == "shards/1"


async def test_a_stream_is_read_whole_and_named_by_its_first_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def requests() -> AsyncIterator[publisher_pb2.ImportGalleryRequest]:
        yield publisher_pb2.ImportGalleryRequest(name="publishers/acme")
        for _ in range(3):
            yield publisher_pb2.ImportGalleryRequest(chunk=b"bytes")

    answer = await Service().ImportGallery(requests(), OPERATOR)
    assert answer.imported_count == 4
    assert line(capsys)["resource"] == "publishers/acme"


async def test_a_key_or_an_image_in_the_wrong_field_is_not_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = new_key().text
    for wrong in (key, key.rpartition("_")[2] + "A", f"publishers/{key}", "x\n" * 50):
        asked = gallery_pb2.RegisterRequest(parent=wrong, reference_id=wrong, image=b"PIXELS")
        service = Service()
        service.outcome = ReferenceAlreadyExists(reference="x")
        with pytest.raises(ReferenceAlreadyExists):
            await service.Register(asked, PUBLISHER)
        asked = publisher_pb2.UpdatePublisherRequest(
            publisher=publisher_pb2.Publisher(name=wrong, display_name=wrong),
            update_mask=FieldMask(paths=[wrong]),
        )
        await service.UpdatePublisher(asked, OPERATOR)
        told = capsys.readouterr().out
        assert told.count('"resource": null') == 2
        assert wrong not in told
        assert key[-20:] not in told
        assert "PIXELS" not in told
