"""The bundle of a model version, from its folder into a stream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from imagelink import _model_calls as calls
from imagelink._archives import CHUNK, PathLike, translated
from imagelink.models import Model
from imagelink.v1 import model_pb2
from imagelink.v1.model_pb2 import RegisterModelRequest

MANIFEST, TENSORS = "manifest.json", "model.safetensors"


def upload_bundle(channel: grpc.Channel, folder: PathLike, **options: Any) -> Model:
    """Sends the two files of a bundle."""
    method = calls.REGISTER_MODEL
    stub: grpc.StreamUnaryMultiCallable[Any, Any] = channel.stream_unary(
        method.path, RegisterModelRequest.SerializeToString, method.answer.FromString
    )
    requests = _requests(*_opened(Path(folder)))
    with translated():
        return method.convert(stub(requests, **options))


def _opened(folder: Path) -> tuple[BinaryIO, BinaryIO]:
    for name in (MANIFEST, TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no bundle of a model: it has no {name}.")
    return (folder / MANIFEST).open("rb"), (folder / TENSORS).open("rb")


def _requests(manifest: BinaryIO, tensors: BinaryIO) -> Iterator[RegisterModelRequest]:
    # Closed here: a thread of gRPC may still read when the call is over.
    with manifest, tensors:
        while chunk := manifest.read(CHUNK):
            yield RegisterModelRequest(file=model_pb2.MODEL_FILE_MANIFEST, chunk=chunk)
        while chunk := tensors.read(CHUNK):
            yield RegisterModelRequest(file=model_pb2.MODEL_FILE_TENSORS, chunk=chunk)
