"""gRPC servers with fake services, for tests of the client."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

Servicer = TypeVar("Servicer", bound=Any)

MAX_MESSAGE = 9 * 1024 * 1024


@contextmanager
def served(
    servicer: Servicer, *registrations: Callable[[Any, grpc.Server], None]
) -> Iterator[Servicer]:
    """Serves a servicer on a free port, which becomes its ``target``."""
    options = [("grpc.max_receive_message_length", MAX_MESSAGE)]
    server = grpc.server(ThreadPoolExecutor(8), options=options)
    for register in registrations:
        register(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(0).wait()
