"""Batches, images and filters of the client, against a small real gRPC server."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import imagelink
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from imagelink import AsyncClient, Client, Registration, RegistrationResult
from imagelink._batch import WINDOW
from imagelink.v1 import gallery_pb2, gallery_pb2_grpc

from tests.unit.fake_servers import served
from tests.unit.test_client import (
    CODES,
    KEY,
    Server,
    info,
    lines,
    reference,
    refuse,
    run,
    written,
)

LINK = "https://x.example/"
REFERENCE = "publishers/acme/references/poster"


class GalleryServer(Server):
    """Answers a batch in reverse as soon as ``together`` items are there, or no more come."""

    def __init__(self) -> None:
        super().__init__()
        self.together = 1
        self.busy = 0
        self.breaks_after = 10**6
        self.received = 0
        self.ended = threading.Event()

    def BatchRegister(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        self.receive("BatchRegister", None, context)
        context.add_callback(self.ended.set)
        waiting: list[Any] = []
        for number, request in enumerate(requests):
            self.received += 1
            waiting.append((number, request.item))
            if len(waiting) >= self.together:
                yield from self._answers(waiting)
            if self.received >= self.breaks_after:
                refuse(context, CODES.UNAVAILABLE, "The server stops.")
        yield from self._answers(waiting)

    def _answers(self, waiting: list[Any]) -> Iterator[Any]:
        while waiting:
            number, item = waiting.pop()
            self.requests.append(item)
            yield self._answer(number, item)

    def _answer(self, number: int, item: Any) -> gallery_pb2.BatchRegisterResponse:
        if item.reference_id == "taken":
            error = status(CODES.ALREADY_EXISTS, "It exists.", info("REFERENCE_ALREADY_EXISTS"))
        elif item.image == b"plain":
            violation: Any = {"field": "image", "description": "Too plain."}
            bad = error_details_pb2.BadRequest(field_violations=[violation])
            error = status(CODES.INVALID_ARGUMENT, "Too plain.", info("IMAGE_TOO_PLAIN"), bad)
        elif self.busy > 0:
            self.busy -= 1
            retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=50_000_000))
            error = status(CODES.UNAVAILABLE, "No database.", info("DATABASE_UNAVAILABLE"), retry)
        else:
            name = f"publishers/acme/references/{item.reference_id}"
            response = gallery_pb2.RegisterResponse(reference=reference(name), gallery_version=9)
            return gallery_pb2.BatchRegisterResponse(item_number=number, response=response)
        return gallery_pb2.BatchRegisterResponse(item_number=number, error=error)

    def AddImage(self, request: Any, context: Any) -> Any:
        self.receive("AddImage", request, context)
        if request.image == b"seventeenth":
            refuse(context, CODES.FAILED_PRECONDITION, "It is full.", info("TOO_MANY_IMAGES"))
        return gallery_pb2.AddImageResponse(
            reference=reference(request.name), gallery_version=7, image_id="i2"
        )

    def RemoveImage(self, request: Any, context: Any) -> Any:
        self.receive("RemoveImage", request, context)
        if request.image_id == "last":
            refuse(context, CODES.FAILED_PRECONDITION, "It is the last.", info("LAST_IMAGE"))
        return gallery_pb2.RemoveImageResponse(reference=reference(request.name), gallery_version=8)


def status(code: CODES, message: str, *details: Any) -> status_pb2.Status:
    made = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        made.details.append(packed)
    return made


@pytest.fixture
def server() -> Iterator[GalleryServer]:
    with served(
        GalleryServer(),
        gallery_pb2_grpc.add_GalleryServicer_to_server,
    ) as servicer:
        yield servicer


@pytest.fixture
def client(server: GalleryServer) -> Iterator[Client]:
    with Client(server.target, key=KEY) as client:
        yield client


def registrations(*names: str) -> list[Registration]:
    return [Registration(name.encode(), LINK + name, name) for name in names]


def by_id(results: list[RegistrationResult]) -> dict[str, RegistrationResult]:
    return {each.registration.reference_id: each for each in results}


# Batches


def test_each_result_comes_with_its_registration(server: GalleryServer, client: Client) -> None:
    server.together = 3
    sent = registrations("a", "b", "c", "d")
    results = list(client.register_all(sent, publisher="acme"))
    assert [each.registration for each in results] == [sent[2], sent[1], sent[0], sent[3]]
    for each in results:
        assert each.error is None
        assert each.written
        assert each.written.reference.id == each.registration.reference_id
        assert each.written.gallery_version == 9
    item = server.last()
    assert (item.parent, item.image, item.request_id) == (
        "publishers/acme",
        b"d",
        sent[3].request_id,
    )
    assert item.reference.link == f"{LINK}d"
    assert len({each.request_id for each in sent}) == 4


def check_failures(results: list[RegistrationResult], missing: Path) -> None:
    found = by_id(results)
    assert len(results) == len(found) == 6
    assert found["a"].written
    assert found["z"].written
    taken, plain, huge = (found[name].error for name in ("taken", "plain", "huge"))
    assert isinstance(taken, imagelink.AlreadyExists)
    assert isinstance(plain, imagelink.InvalidArgument)
    assert (plain.reason, plain.message) == ("IMAGE_TOO_PLAIN", "Too plain.")
    assert plain.field_violations == (imagelink.FieldViolation("image", "Too plain."),)
    assert isinstance(huge, imagelink.InvalidArgument)
    assert f"{10 * 1024 * 1024} bytes" in huge.message
    gone = found["missing"].error
    assert isinstance(gone, FileNotFoundError)
    assert gone.filename == str(missing)


def failing(missing: Path) -> list[Registration]:
    return [
        *registrations("a", "taken", "plain"),
        Registration(missing, LINK, "missing"),
        Registration(bytes(10 * 1024 * 1024), LINK, "huge"),
        *registrations("z"),
    ]


def test_what_fails_does_not_stop_the_rest(client: Client, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    check_failures(list(client.register_all(failing(missing))), missing)


async def test_async_batches_are_those_of_the_sync_client(
    server: GalleryServer, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.jpg"
    async with AsyncClient(server.target, key=KEY) as client:
        check_failures([each async for each in client.register_all(failing(missing))], missing)
        server.together = 1000
        many = registrations(*(f"r{number}" for number in range(WINDOW)))
        assert len([each async for each in client.register_all(many)]) == WINDOW
        assert [each async for each in client.register_all([])] == []
    async with AsyncClient(server.target, key="wrong") as other:
        with pytest.raises(imagelink.Unauthenticated):
            await anext(other.register_all(many))


def test_no_more_is_sent_than_may_be_unanswered(server: GalleryServer, client: Client) -> None:
    server.together = 1000
    taken: list[int] = []

    def endless() -> Iterator[Registration]:
        for number in range(500):
            taken.append(number)
            yield Registration(b"x", LINK, f"r{number}")

    def take() -> None:
        with suppress(imagelink.ImageLinkError):  # The client is closed at the end.
            list(client.register_all(endless()))

    threading.Thread(target=take, daemon=True).start()
    deadline = time.monotonic() + 10
    while server.received < WINDOW and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert server.received == WINDOW
    assert len(taken) <= WINDOW + 1


async def test_an_async_stream_that_breaks_while_it_writes_is_unavailable(
    server: GalleryServer,
) -> None:
    many = registrations(*(f"r{number}" for number in range(200)))
    server.breaks_after = 20
    async with AsyncClient(server.target, key=KEY) as client:
        with pytest.raises(imagelink.Unavailable):
            async for _ in client.register_all(many):
                pass


def test_a_batch_that_is_given_up_ends_the_call(server: GalleryServer, client: Client) -> None:
    threads = threading.active_count()
    results = client.register_all(registrations(*(f"r{number}" for number in range(200))))
    next(results)
    results.close()
    assert server.ended.wait(10)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.received < 200


def test_a_broken_stream_is_raised(server: GalleryServer, client: Client) -> None:
    server.breaks_after = 2
    results = client.register_all(registrations("a", "b", "c"))
    assert {next(results).registration.reference_id for _ in range(2)} == {"a", "b"}
    with pytest.raises(imagelink.Unavailable, match="The server stops"):
        list(results)
    with Client(server.target, key="wrong") as other, pytest.raises(imagelink.Unauthenticated):
        list(other.register_all(registrations("a")))


def test_a_batch_may_have_a_deadline(server: GalleryServer, client: Client) -> None:
    server.together = 1000

    def slowly() -> Iterator[Registration]:
        yield from registrations("a", "b")
        time.sleep(1.0)

    with pytest.raises(imagelink.DeadlineExceeded):
        list(client.register_all(slowly(), timeout=0.2))


# Images and filters


def test_images_are_added_and_removed(
    server: GalleryServer, client: Client, tmp_path: Path
) -> None:
    added = client.add_image("poster", written(tmp_path / "b.jpg", b"back"), publisher="acme")
    assert (server.last().name, server.last().image) == (REFERENCE, b"back")
    assert (added.image_id, added.gallery_version, added.reference.id) == ("i2", 7, "poster")
    removed = client.remove_image(REFERENCE, "i2")
    assert (server.last().name, server.last().image_id) == (REFERENCE, "i2")
    assert (removed.gallery_version, removed.reference.id) == (8, "poster")


def test_refused_images_have_their_reason(client: Client) -> None:
    with pytest.raises(imagelink.FailedPrecondition) as full:
        client.add_image(REFERENCE, b"seventeenth")
    assert full.value.reason == "TOO_MANY_IMAGES"
    with pytest.raises(imagelink.FailedPrecondition) as last:
        client.remove_image(REFERENCE, "last")
    assert last.value.reason == "LAST_IMAGE"


def test_adding_an_image_is_not_retried(server: GalleryServer, client: Client) -> None:
    server.unavailable.update(AddImage=1)
    with pytest.raises(imagelink.Unavailable):
        client.add_image(REFERENCE, b"back")
    assert server.calls["AddImage"] == 1


async def test_async_images_are_added_and_removed(server: GalleryServer) -> None:
    async with AsyncClient(server.target, key=KEY) as client:
        assert (await client.add_image(REFERENCE, b"back")).image_id == "i2"
        assert (await client.remove_image(REFERENCE, "i2")).gallery_version == 8


async def test_each_page_is_asked_for_with_the_filter(
    server: GalleryServer, client: Client
) -> None:
    list(client.list_references(filter="active = true", page_size=2))
    async with AsyncClient(server.target, key=KEY) as other:
        async for _ in other.list_references(filter="active = true", page_size=2):
            pass
    assert [each.filter for each in server.requests] == ["active = true"] * 6


# The command line


def test_register_all_sums_up_and_lists_what_failed(server: GalleryServer, tmp_path: Path) -> None:
    for name in ("New One.jpg", "taken.jpg", "New-one.png"):
        written(tmp_path / name, b"x")
    written(tmp_path / "plain.jpg", b"plain")
    result = run(server, "register-all", tmp_path, "--link-template", LINK + "{name}")
    assert result.exit_code == 1
    assert "1 registered, 1 already registered, 2 failed" in result.stdout
    assert "plain.jpg: Too plain." in result.stderr
    assert "New-one.png: Its id 'new-one' is that of" in result.stderr
    assert server.calls == {"BatchRegister": 1}
    assert {each.reference_id: each.reference.link for each in server.requests[1:]} == {
        name: LINK + name for name in ("new-one", "taken", "plain")
    }


def test_registering_all_again_is_no_failure(server: GalleryServer, tmp_path: Path) -> None:
    written(tmp_path / "taken.jpg", b"x")
    written(tmp_path / "new.jpg", b"x")
    result = run(server, "register-all", "--json", tmp_path, "--link", LINK)
    assert result.exit_code == 0, result.output
    found = {each["reference_id"]: each for each in lines(result.stdout)}
    assert found["taken"]["status"] == "already_registered"
    assert found["new"]["status"] == "registered"
    assert found["new"]["gallery_version"] == 9


def test_register_all_comes_back_when_the_server_asks(
    server: GalleryServer, tmp_path: Path
) -> None:
    for name in "abc":
        written(tmp_path / f"{name}.jpg", b"x")
    server.busy = 4
    result = run(server, "register-all", tmp_path, "--link", LINK)
    assert result.exit_code == 0, result.output
    assert "3 registered, 0 already registered, 0 failed" in result.stdout
    assert server.calls["BatchRegister"] == 3
    sent = [each.request_id for each in server.requests if each is not None]
    assert (len(sent), len(set(sent))) == (7, 3)


def test_register_all_gives_up_at_last(server: GalleryServer, tmp_path: Path) -> None:
    written(tmp_path / "a.jpg", b"x")
    server.busy = 100
    result = run(server, "register-all", tmp_path, "--link", LINK)
    assert result.exit_code == 1
    assert "a.jpg: No database." in result.stderr
    assert server.calls["BatchRegister"] == 5


def test_register_all_sums_up_what_a_broken_stream_has_done(
    server: GalleryServer, tmp_path: Path
) -> None:
    for name in "abc":
        written(tmp_path / f"{name}.jpg", b"x")
    server.breaks_after = 2
    result = run(server, "register-all", tmp_path, "--link", LINK)
    assert result.exit_code == 1
    assert "2 registered, 0 already registered, 0 failed" in result.stdout
    assert result.stderr.startswith(f"The server at {server.target} cannot be reached")


@pytest.mark.parametrize(
    ("arguments", "key", "sentence"),
    [
        (["register-all", "{photo}", "--link", "x:y"], "wrong", "The API key is unknown."),
        (["register-all", "{photo}"], KEY, "Give either --link-template or --link."),
        (["register-all", "{folder}", "--link", "x:y"], KEY, "There are no JPEG, PNG or WebP"),
        (["image", "add", REFERENCE, "missing.jpg"], KEY, "No such file or directory: missing.jpg"),
        (["image", "add", REFERENCE, "{full}"], KEY, "It is full."),
        (["image", "remove", REFERENCE, "last"], KEY, "It is the last."),
        (["image", "remove", "poster", "i2"], KEY, "The bare id 'poster' does not say whose"),
    ],
)
def test_an_error_is_one_sentence(
    server: GalleryServer, tmp_path: Path, arguments: list[str], key: str, sentence: str
) -> None:
    photo = written(tmp_path / "photo.jpg", b"photo")
    full = written(tmp_path / "full.jpg", b"seventeenth")
    folder = tmp_path / "empty"
    folder.mkdir()
    words = (word.format(photo=photo, full=full, folder=folder) for word in arguments)
    result = run(server, *words, key=key)
    assert result.exit_code == 1
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_images_are_added_and_removed_by_commands(server: GalleryServer, tmp_path: Path) -> None:
    files = [written(tmp_path / name, b"x") for name in ("back.jpg", "photo.jpg")]
    result = run(server, "image", "add", "poster", *files, "--publisher", "acme")
    assert result.stdout == "".join(f"{file}: added as i2\n" for file in files)
    assert server.last().name == REFERENCE
    (added,) = lines(run(server, "image", "add", "--json", REFERENCE, files[0]).stdout)
    assert (added["file"], added["image_id"]) == (str(files[0]), "i2")
    assert "version 8" in run(server, "image", "remove", REFERENCE, "i2").stdout


def test_references_are_listed_by_a_filter(server: GalleryServer) -> None:
    result = run(server, "reference", "list", "--filter", "active = true")
    assert result.exit_code == 0, result.output
    assert server.last().filter == "active = true"
