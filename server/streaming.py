"""What every streaming method has around it, and work on the items of a stream side by side."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from indexing.errors import ImageLinkError
from indexing.reference import Role
from server import tracing
from server.auth import Caller
from server.rpc import Authenticated, GrpcContext, logged_fault, take_name
from server.status import fail

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Item = TypeVar("Item")
Result = TypeVar("Result")

Asked = TypeVar("Asked", bound=Message | AsyncIterator[Any])

Method = Callable[[Any, Asked, Caller], AsyncGenerator[Answer, None]]


def stream_rpc(
    roles: frozenset[Role],
) -> Callable[
    [Method[Asked, Answer]],
    Callable[[Any, Asked, GrpcContext], AsyncGenerator[Answer, None]],
]:
    """Makes a method of (request or requests, caller) a gRPC method that answers a stream.

    The key is looked at again with each of several requests, as a stream may outlive it. Errors
    end the stream as those of a method under ``server.rpc.rpc`` end a call.
    """

    def decorate(
        method: Method[Asked, Answer],
    ) -> Callable[[Any, Asked, GrpcContext], AsyncGenerator[Answer, None]]:
        async def call(
            self: Authenticated, asked: Asked, grpc_context: GrpcContext
        ) -> AsyncGenerator[Answer, None]:
            metadata = grpc_context.invocation_metadata()
            authenticate = partial(self.authenticator.authenticate, metadata, roles)
            try:
                with tracing.call(method.__name__, metadata):
                    caller = await authenticate()
                    if isinstance(asked, AsyncIterator):
                        asked = cast(Asked, Requests(asked, authenticate, caller))
                    async with aclosing(method(self, asked, caller)) as answers:
                        async for answer in answers:
                            yield answer
            except ImageLinkError as error:
                fail(grpc_context, error)
            except Exception as error:
                fail(grpc_context, logged_fault(method.__name__, error))

        take_name(call, method)
        return call

    return decorate


class Requests(AsyncIterator[Request]):
    """The requests of a stream, each after a look at its key; ``caller`` is as of the last one."""

    def __init__(
        self,
        requests: AsyncIterator[Request],
        authenticate: Callable[[], Awaitable[Caller]],
        caller: Caller,
    ) -> None:
        self._requests = requests
        self._authenticate = authenticate
        self.caller = caller

    async def __anext__(self) -> Request:
        request = await anext(self._requests)
        self.caller = await self._authenticate()
        return request


async def side_by_side(
    items: AsyncIterator[Item],
    work: Callable[[Item], Awaitable[Result]],
    window: int,
    slots: asyncio.Semaphore,
) -> AsyncGenerator[tuple[int, Result], None]:
    """Works on the items of a stream; yields the number and the result of each as it is done.

    It reads on only while fewer than ``window`` results are in the making or wait to be taken,
    and one of ``slots`` is free, which several streams may share: beside those items it holds one
    more. ``work`` raises nothing; an error of ``items`` is raised after the results of those read.
    """
    workers = _Workers(work, window, slots)
    feeder = asyncio.create_task(workers.feed(items))
    try:
        while (done := await workers.results.get()) is not None:
            yield done
            workers.room.release()
        await feeder
    finally:
        running = (feeder, *workers.tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Workers(Generic[Item, Result]):
    """The tasks of one stream: ``results`` ends with None."""

    def __init__(
        self, work: Callable[[Item], Awaitable[Result]], window: int, slots: asyncio.Semaphore
    ) -> None:
        self._work = work
        self._slots = slots
        self.room = asyncio.Semaphore(window)
        self.tasks: set[asyncio.Task[None]] = set()
        self.results: asyncio.Queue[tuple[int, Result] | None] = asyncio.Queue()

    async def feed(self, items: AsyncIterator[Item]) -> None:
        """Starts a task for each item."""
        try:
            number = 0
            async for item in items:
                await self.room.acquire()
                await self._slots.acquire()
                task = asyncio.create_task(self._run(number, item))
                self.tasks.add(task)
                task.add_done_callback(self._end)
                number += 1
        finally:
            await asyncio.gather(*self.tasks)
            self.results.put_nowait(None)

    async def _run(self, number: int, item: Item) -> None:
        self.results.put_nowait((number, await self._work(item)))

    def _end(self, task: asyncio.Task[None]) -> None:
        # Not in the task itself, which may be cancelled before it begins.
        self._slots.release()
        self.tasks.discard(task)


async def numbered(items: AsyncIterator[Item]) -> AsyncGenerator[tuple[int, Item], None]:
    """The items of a stream with their numbers from 0."""
    number = 0
    async for item in items:
        yield number, item
        number += 1


async def newest(items: AsyncIterator[Item]) -> AsyncGenerator[tuple[int, Item], None]:
    """The items of a stream with their numbers from 0, without those that came too fast.

    While one is worked on only the newest of those that come waits. An error of ``items`` is
    raised before what waits.
    """
    waiting: dict[int, Item] = {}
    changed = asyncio.Event()

    async def read() -> None:
        async for number, item in numbered(items):
            waiting.clear()
            waiting[number] = item
            changed.set()

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda _: changed.set())
    try:
        while True:
            await changed.wait()
            if reader.done():
                reader.result()
            if waiting:
                yield waiting.popitem()
            elif reader.done():
                return
            else:
                changed.clear()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
