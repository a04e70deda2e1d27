"""Work in the background waits behind live work, and yet is done."""

import asyncio
import os
import threading
from contextlib import ExitStack

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from server.background import THREADS, RightOfWay, in_background

FOREVER, SHORT = 60.0, 0.05


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Background:
    """Pieces of background work: which have begun; each ends when it may."""

    def __init__(self, way: RightOfWay) -> None:
        self._way = way
        self.begun: list[str] = []
        self.may_end = asyncio.Event()

    def begin(self, name: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self._done(name))

    async def _done(self, name: str) -> None:
        async with self._way.background():
            self.begun.append(name)
            await self.may_end.wait()


@pytest.fixture
def way() -> RightOfWay:
    return RightOfWay(FOREVER)


@pytest.fixture
def background(way: RightOfWay) -> Background:
    return Background(way)


async def test_background_work_begins_at_once_where_nothing_is_live(background: Background) -> None:
    task = background.begin("gate")
    await settled()
    assert background.begun == ["gate"]
    background.may_end.set()
    await task


async def test_background_work_waits_for_the_end_of_all_live_work(
    way: RightOfWay, background: Background
) -> None:
    with ExitStack() as scans:
        scans.enter_context(way.live())
        with way.live():
            task = background.begin("gate")
            await settled()
        await settled()
        assert background.begun == []
    await settled()
    assert background.begun == ["gate"]
    background.may_end.set()
    await task


async def test_live_work_that_begins_as_other_ends_is_waited_for_too(
    way: RightOfWay, background: Background
) -> None:
    first, second = way.live(), way.live()
    first.__enter__()
    task = background.begin("gate")
    await settled()
    first.__exit__(None, None, None)
    second.__enter__()
    await settled()
    assert background.begun == []
    second.__exit__(None, None, None)
    background.may_end.set()
    await task


async def test_live_work_waits_for_no_background_work(
    way: RightOfWay, background: Background
) -> None:
    task = background.begin("gate")
    await settled()
    with way.live():
        assert background.begun == ["gate"]
    background.may_end.set()
    await task


async def test_under_live_work_without_an_end_background_work_is_done_all_the_same() -> None:
    way = RightOfWay(SHORT)
    background = Background(way)
    background.may_end.set()
    with way.live():
        async with asyncio.timeout(FOREVER):
            await asyncio.gather(*map(background.begin, ("gate", "shadow", "assessment")))
    assert background.begun == ["gate", "shadow", "assessment"]


async def test_background_work_is_done_one_piece_at_a_time(background: Background) -> None:
    tasks = [background.begin("gate"), background.begin("shadow")]
    await settled()
    assert background.begun == ["gate"]
    background.may_end.set()
    await asyncio.gather(*tasks)
    assert background.begun == ["gate", "shadow"]


async def test_one_whose_caller_is_gone_holds_up_nobody(
    way: RightOfWay, background: Background
) -> None:
    background.may_end.set()
    with way.live():
        gone, other = background.begin("gate"), background.begin("shadow")
        await settled()
        gone.cancel()
        await settled()
    await other
    assert background.begun == ["shadow"]


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_threads_of_the_background_come_after_all_others() -> None:
    together = threading.Barrier(THREADS)

    def measured() -> int:
        together.wait(60)
        return niceness()

    background = await asyncio.gather(*(in_background(measured) for _ in range(THREADS)))
    scans = await asyncio.to_thread(niceness)
    assert scans == niceness()
    assert all(each > scans for each in background)


async def test_what_is_done_in_the_background_is_told_who_asked_and_answers_him() -> None:
    def divided(dividend: int, divisor: int) -> tuple[float, object]:
        return dividend / divisor, get_contextvars()["scan"]

    with bound_contextvars(scan="one"):
        assert await in_background(divided, 6, 3) == (2, "one")
        with pytest.raises(ZeroDivisionError):
            await in_background(divided, 6, 0)
