"""Work on the items of a stream, and what is around a streaming method."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value
from google.rpc import error_details_pb2, status_pb2

from indexing.errors import ApiKeyInvalid, FieldInvalid
from indexing.reference import Role
from server.auth import Caller
from server.streaming import Requests, side_by_side, stream_rpc

WINDOW = 4


class Source:
    """A stream of numbers that tells how many were read."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers = numbers
        self.read = 0

    async def __aiter__(self) -> AsyncGenerator[int, None]:
        for number in self.numbers:
            self.read += 1
            yield number


class Work:
    """Lets items wait until they are let go."""

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Event] = {}
        self.running: set[int] = set()

    async def __call__(self, item: int) -> str:
        self.running.add(item)
        try:
            await self.gates.setdefault(item, asyncio.Event()).wait()
        finally:
            self.running.discard(item)
        return f"done {item}"

    def finish(self, item: int) -> None:
        self.gates.setdefault(item, asyncio.Event()).set()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def immediately(item: int) -> int:
    return item


async def test_results_come_as_they_are_done() -> None:
    work, source = Work(), Source(range(3))
    results = side_by_side(aiter(source), work, WINDOW, asyncio.Semaphore(WINDOW))
    work.finish(2)
    assert await anext(results) == (2, "done 2")
    work.finish(0)
    assert await anext(results) == (0, "done 0")
    work.finish(1)
    assert [result async for result in results] == [(1, "done 1")]


async def test_it_reads_no_more_than_may_be_unanswered() -> None:
    source = Source(range(100))
    slots = asyncio.Semaphore(100)
    async with aclosing(side_by_side(aiter(source), immediately, WINDOW, slots)) as results:
        await anext(results)
        await settled()
        # Those of the window, and the one in hand; though all of the work is done.
        assert source.read == WINDOW + 1
        await anext(results)
        await settled()
        assert source.read == WINDOW + 2


async def test_streams_share_the_slots_and_end_with_all_of_them_free() -> None:
    work, slots = Work(), asyncio.Semaphore(2)
    first, second = Source(range(5)), Source(range(10, 15))
    streams = [
        asyncio.ensure_future(_all(side_by_side(aiter(each), work, WINDOW, slots)))
        for each in (first, second)
    ]
    await settled()
    assert len(work.running) == 2
    assert first.read + second.read <= 4
    for item in (*range(5), *range(10, 15)):
        work.finish(item)
    assert [len(found) for found in await asyncio.gather(*streams)] == [5, 5]
    for _ in range(2):
        await asyncio.wait_for(slots.acquire(), 1)


async def test_a_stream_that_is_given_up_stops_its_work_and_frees_its_slots() -> None:
    work, source, slots = Work(), Source(range(100)), asyncio.Semaphore(3)
    results = side_by_side(aiter(source), work, WINDOW, slots)
    work.finish(0)
    await anext(results)
    await results.aclose()
    assert work.running == set()
    for _ in range(3):
        await asyncio.wait_for(slots.acquire(), 1)


async def test_a_broken_stream_is_told_after_the_results_of_what_was_read() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise FieldInvalid(field="x", problem="broken.")

    results = side_by_side(broken(), immediately, WINDOW, asyncio.Semaphore(1))
    assert [await anext(results), await anext(results)] == [(0, 1), (1, 2)]
    with pytest.raises(FieldInvalid):
        await anext(results)


async def _all(results: AsyncIterator[tuple[int, str]]) -> list[tuple[int, str]]:
    return [result async for result in results]


class Context:
    """A gRPC context."""

    code: grpc.StatusCode | None = None
    details = ""
    trailers: tuple[tuple[str, bytes], ...] = ()

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return [("authorization", "Bearer k")]

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: list[tuple[str, bytes]]) -> None:
        self.trailers = tuple(metadata)

    def reason(self) -> str:
        info = error_details_pb2.ErrorInfo()
        status_pb2.Status.FromString(self.trailers[0][1]).details[0].Unpack(info)
        return info.reason


class Keys:
    """Knows the key until it was asked often enough."""

    def __init__(self, uses: int) -> None:
        self.uses = uses

    async def authenticate(self, metadata: object, roles: frozenset[Role]) -> Caller:
        assert roles == {Role.PUBLISH}
        self.uses -= 1
        if self.uses < 0:
            raise ApiKeyInvalid
        return Caller(Role.PUBLISH, None, "k")


class Service:
    def __init__(self, uses: int = 100) -> None:
        self.authenticator = Keys(uses)

    @stream_rpc(frozenset({Role.PUBLISH}))
    async def Double(
        self, requests: AsyncIterator[Int32Value], caller: Caller
    ) -> AsyncGenerator[Int32Value, None]:
        assert caller.role is Role.PUBLISH
        async for request in requests:
            if request.value < 0:
                raise FieldInvalid(field="value", problem="it is negative.")
            yield Int32Value(value=2000 // request.value)


async def called(service: Service, *numbers: int) -> tuple[list[int], Context]:
    async def requests() -> AsyncIterator[Int32Value]:
        for number in numbers:
            yield Int32Value(value=number)

    context = Context()
    answers = [answer.value async for answer in service.Double(requests(), context)]
    return answers, context


async def test_a_stream_is_answered() -> None:
    answers, context = await called(Service(), 1, 2)
    assert (answers, context.code) == ([2000, 1000], None)


async def test_the_caller_is_the_one_that_the_key_told_of_last() -> None:
    async def two() -> AsyncIterator[Int32Value]:
        yield Int32Value()
        yield Int32Value()

    keys = iter("ab")

    async def authenticate() -> Caller:
        return Caller(Role.PUBLISH, None, next(keys))

    requests = Requests(two(), authenticate, Caller(Role.PUBLISH, None, "first"))
    seen = [requests.caller.key_id] + [requests.caller.key_id async for _ in requests]
    assert seen == ["first", "a", "b"]


async def test_a_domain_error_ends_the_stream_with_its_status() -> None:
    answers, context = await called(Service(), 1, -2, 3)
    assert answers == [2000]
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert context.reason() == "FIELD_INVALID"


async def test_a_fault_ends_the_stream_without_telling_what_it_was() -> None:
    answers, context = await called(Service(), 1, 0)
    assert answers == [2000]
    assert context.code is grpc.StatusCode.INTERNAL
    assert "zero" not in context.details
    assert context.reason() == "INTERNAL"


async def test_a_caller_without_a_key_gets_no_answer() -> None:
    answers, context = await called(Service(uses=0), 1)
    assert (answers, context.code) == ([], grpc.StatusCode.UNAUTHENTICATED)


async def test_a_key_that_is_revoked_ends_a_stream_that_runs() -> None:
    answers, context = await called(Service(uses=3), 1, 2, 4)
    assert (answers, context.code) == ([2000, 1000], grpc.StatusCode.UNAUTHENTICATED)
