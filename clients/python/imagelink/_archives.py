"""Archives between files and streams."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import grpc

from imagelink import _calls as calls
from imagelink.archives import ImportResult
from imagelink.errors import from_rpc_error
from imagelink.v1.publisher_pb2 import ExportGalleryRequest, ImportGalleryRequest

CHUNK = 1024 * 1024

PathLike: TypeAlias = str | os.PathLike[str]


def download(channel: grpc.Channel, publisher: str, path: PathLike, **options: Any) -> None:
    """Writes the archive of a gallery into a file."""
    method = calls.EXPORT_GALLERY
    request = ExportGalleryRequest(name=calls.publisher_name(publisher))
    stub: grpc.UnaryStreamMultiCallable[Any, Any] = channel.unary_stream(
        method.path, ExportGalleryRequest.SerializeToString, method.answer.FromString
    )
    with _whole(Path(path)) as file, translated():
        answers = stub(request, **options)
        try:
            for answer in answers:
                file.write(answer.chunk)
        finally:
            answers.cancel()  # type: ignore[no-untyped-call]


def upload(channel: grpc.Channel, publisher: str, path: PathLike, **options: Any) -> ImportResult:
    """Sends an archive from a file."""
    method = calls.IMPORT_GALLERY
    stub: grpc.StreamUnaryMultiCallable[Any, Any] = channel.stream_unary(
        method.path, ImportGalleryRequest.SerializeToString, method.answer.FromString
    )
    file = Path(path).open("rb")  # noqa: SIM115 (the requests close it)
    requests = _requests(calls.publisher_name(publisher), file)
    with translated():
        return method.convert(stub(requests, **options))


def _requests(name: str, file: BinaryIO) -> Iterator[ImportGalleryRequest]:
    # Closed here: a thread of gRPC may still read when the call is over.
    with file:
        yield ImportGalleryRequest(name=name)
        while chunk := file.read(CHUNK):
            yield ImportGalleryRequest(chunk=chunk)


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
def translated() -> Iterator[None]:
    """Raises the client's errors in place of gRPC's."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
