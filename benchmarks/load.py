"""Scans from a process of their own: so many at once, or so many a second, and how they went."""

import asyncio
import itertools
import multiprocessing
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
from imagelink.v1 import recognition_pb2

HTTP = "http://"
METHOD = "/imagelink.v1.Recognition/Scan"
DEADLINE_SECONDS = 30.0
# One connection carries a hundred calls at once.
CONNECTIONS = 4
OK = grpc.StatusCode.OK.name
REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED.name


@dataclass(frozen=True, slots=True)
class Shot:
    """A photo as a file, and the ids of the references that are in it."""

    photo: bytes
    expected: frozenset[str]


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone who scans photos in turns, under an API key; a peer's key is the publisher's id.

    With ``rate`` at so many a second on average, whatever becomes of them (an open loop, as users
    are); with ``in_flight`` each as soon as one before is answered, so many at once.
    """

    name: str
    key: str
    shots: Sequence[Shot]
    rate: float | None = None
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A call: whose, when it was due, in seconds since the load began, and how it went.

    ``seconds`` count from when it was due.
    """

    caller: str
    begun: float
    seconds: float
    status: str
    right: bool


Scan = Callable[[Caller, Shot], Coroutine[None, None, tuple[str, frozenset[str]]]]
Make = Callable[[Caller, Shot, float], Coroutine[None, None, None]]


def run_load(target: str, callers: Sequence[Caller], seconds: float, seed: int = 0) -> list[Call]:
    """Puts load on a server for so long, and waits for the last answers.

    ``target`` is ImageLink's, over gRPC, or the URL of a peer.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor:
        return executor.submit(_run, target, callers, seconds, seed).result()


def _run(target: str, callers: Sequence[Caller], seconds: float, seed: int) -> list[Call]:
    return asyncio.run(_call_all(target, callers, seconds, random.Random(seed)))


async def _call_all(
    target: str, callers: Sequence[Caller], seconds: float, rng: random.Random
) -> list[Call]:
    calls: list[Call] = []
    over = _over_http if target.startswith(HTTP) else _over_grpc
    async with over(target) as scan:
        start = time.perf_counter()

        async def make(caller: Caller, shot: Shot, due: float) -> None:
            status, found = await scan(caller, shot)
            took = time.perf_counter() - start - due
            calls.append(Call(caller.name, due, took, status, found == shot.expected))

        async with asyncio.TaskGroup() as group:
            for caller in callers:
                if caller.rate is None:
                    shots = itertools.cycle(caller.shots)
                    for _ in range(caller.in_flight):
                        group.create_task(_closed(caller, shots, make, start, seconds))
                else:
                    group.create_task(_open(caller, caller.rate, group, make, start, seconds, rng))
    return calls


async def _closed(
    caller: Caller, shots: Iterator[Shot], make: Make, start: float, seconds: float
) -> None:
    while (now := time.perf_counter() - start) < seconds:
        await make(caller, next(shots), now)


async def _open(
    caller: Caller,
    rate: float,
    group: asyncio.TaskGroup,
    make: Make,
    start: float,
    seconds: float,
    rng: random.Random,
) -> None:
    due = rng.expovariate(rate)
    for shot in itertools.cycle(caller.shots):
        if due > seconds:
            return
        await asyncio.sleep(start + due - time.perf_counter())
        group.create_task(make(caller, shot, due))
        due += rng.expovariate(rate)


@asynccontextmanager
async def _over_grpc(target: str) -> AsyncIterator[Scan]:
    """The method on several connections, in turns."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options))
            for _ in range(CONNECTIONS)
        ]
        methods = itertools.cycle(
            [
                channel.unary_unary(
                    METHOD,
                    request_serializer=recognition_pb2.ScanRequest.SerializeToString,
                    response_deserializer=recognition_pb2.ScanResponse.FromString,
                )
                for channel in channels
            ]
        )

        async def scan(caller: Caller, shot: Shot) -> tuple[str, frozenset[str]]:
            metadata = (("authorization", f"Bearer {caller.key}"),)
            request = recognition_pb2.ScanRequest(image=shot.photo)
            try:
                answer = await next(methods)(request, metadata=metadata, timeout=DEADLINE_SECONDS)
            except grpc.aio.AioRpcError as error:
                return error.code().name, frozenset()
            names = (match.reference.rpartition("/")[2] for match in answer.matches)
            return OK, frozenset(names)

        yield scan


def request_body(caller: Caller, shot: Shot) -> bytes:
    """What a peer is sent: whose scan it is in a first line, and the photo."""
    return caller.key.encode() + b"\n" + shot.photo


@asynccontextmanager
async def _over_http(url: str) -> AsyncIterator[Scan]:
    """A POST, which is answered by a JSON array of ids."""
    # Only peers need it, and each load is a process that would import it.
    import aiohttp

    timeout = aiohttp.ClientTimeout(DEADLINE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def scan(caller: Caller, shot: Shot) -> tuple[str, frozenset[str]]:
            try:
                async with session.post(url, data=request_body(caller, shot)) as answer:
                    answer.raise_for_status()
                    return OK, frozenset(await answer.json())
            except (aiohttp.ClientError, TimeoutError) as error:
                return type(error).__name__, frozenset()

        yield scan
