"""Archives over a stream: each side tells what it took, and the other is never far ahead."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Semaphore
from typing import Any, BinaryIO, TypeAlias

import grpc

from imagelink import _calls as calls
from imagelink.archives import ImportResult
from imagelink.errors import from_rpc_error
from imagelink.v1.publisher_pb2 import ExportGalleryRequest, ImportGalleryRequest

CHUNK = 1024 * 1024
WINDOW = 8
"""Chunks that may be ahead of what the server has taken."""

PathLike: TypeAlias = str | os.PathLike[str]


def download(channel: grpc.Channel, publisher: str, path: PathLike, **options: Any) -> None:
    """Writes the archive of a gallery into a file."""
    requests: SimpleQueue[ExportGalleryRequest | None] = SimpleQueue()
    requests.put(ExportGalleryRequest(name=calls.publisher_name(publisher)))
    with _whole(Path(path)) as file, _translated():
        stub = channel.stream_stream(calls.EXPORT_GALLERY.path, *_coders(calls.EXPORT_GALLERY))
        try:
            for answer in stub(iter(requests.get, None), **options):
                file.write(answer.chunk)
                requests.put(ExportGalleryRequest())
        finally:
            requests.put(None)


def upload(channel: grpc.Channel, publisher: str, path: PathLike, **options: Any) -> ImportResult:
    """Sends an archive from a file."""
    room, result = Semaphore(WINDOW), None

    def requests(file: BinaryIO) -> Iterator[ImportGalleryRequest]:
        yield ImportGalleryRequest(name=calls.publisher_name(publisher))
        while chunk := file.read(CHUNK):
            room.acquire()
            yield ImportGalleryRequest(chunk=chunk)

    with Path(path).open("rb") as file, _translated():
        stub = channel.stream_stream(calls.IMPORT_GALLERY.path, *_coders(calls.IMPORT_GALLERY))
        try:
            for answer in stub(requests(file), **options):
                room.release()
                result = calls.IMPORT_GALLERY.convert(answer)
        finally:
            # gRPC's thread, which may wait for room, sees that the call is over.
            room.release()
    return _given(result)


def _coders(method: "calls.Method[Any, Any]") -> tuple[Any, Any]:
    request = ExportGalleryRequest if method is calls.EXPORT_GALLERY else ImportGalleryRequest
    return request.SerializeToString, method.answer.FromString


def _given(result: ImportResult | None) -> ImportResult:
    assert result is not None, "a stream that ends well ends with its result"
    return result


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when it is whole, or leaves nothing."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
