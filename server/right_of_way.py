"""Live work goes first, and work in the background when there is none; or at last all the same."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress


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
