"""The least that a gRPC server in Python can do with a scan: take it in, and answer at once."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from benchmarks.load import METHOD
from server.app import free_ports

START_SECONDS = 30.0


@contextmanager
def echo_server(answer: bytes) -> Iterator[str]:
    """The target of a plain ``grpc.aio`` server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    (port,) = free_ports(1)
    ready = context.Event()
    process = context.Process(target=_serve, args=(port, answer, ready), daemon=True)
    process.start()
    try:
        ready.wait(START_SECONDS)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def _serve(port: int, answer: bytes, ready: object) -> None:
    asyncio.run(_answer_all(port, answer, ready))


async def _answer_all(port: int, answer: bytes, ready: object) -> None:
    async def echo(request: bytes, context: object) -> bytes:
        return answer

    server = grpc.aio.server()
    service, _, method = METHOD[1:].partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    ready.set()  # type: ignore[attr-defined]
    await server.wait_for_termination()
