"""Work that is to hold up no scan: its turn among theirs, and threads that come after theirs."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import TypeVar

THREADS = os.cpu_count() or 1
# A tenth of what a scan's thread gets where both want a core. Not less: who waits for Python's lock
# while such a thread has it waits until that is done with it.
NICENESS = 10

Result = TypeVar("Result")

# On Linux niceness is a thread's own.
_threads = ThreadPoolExecutor(THREADS, "background", initializer=os.nice, initargs=(NICENESS,))


async def in_background(work: Callable[..., Result], *arguments: object) -> Result:
    """Does as ``asyncio.to_thread``, in one of as many threads as cores, which yield to all others."""
    call = partial(copy_context().run, work, *arguments)
    return await asyncio.get_running_loop().run_in_executor(_threads, call)


class RightOfWay:
    """Lets background work begin when no live work is under way, one piece at a time.

    A piece waits ``longest_wait`` seconds at most once it is its turn, so that it is done however
    much is live. What has begun goes on: pieces are to be short.
    """

    def __init__(self, longest_wait: float) -> None:
        self._longest_wait = longest_wait
        self._live = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._turn = asyncio.Lock()

    @contextmanager
    def live(self) -> Iterator[None]:
        """Holds background work off for the block."""
        self._live += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._live -= 1
            if not self._live:
                self._quiet.set()

    @asynccontextmanager
    async def background(self) -> AsyncIterator[None]:
        """Waits for its turn, and then for a moment without live work."""
        async with self._turn:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._longest_wait):
                    # It wakes some time after the last live work ended: more may have begun.
                    while self._live:
                        await self._quiet.wait()
            yield
