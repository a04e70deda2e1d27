"""Group commit: writes that wait for the same lock are done in one transaction."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from indexing.errors import ImageLinkError

MAX_WRITES = 64
"""Writes per transaction: others that want the lock wait for so many at most."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class GroupCommit(Generic[Item, Outcome]):
    """Collects the writes to a group while an earlier one of it is being committed.

    No write waits for company: the first goes alone, and those that come meanwhile go together
    (DeWitt et al., "Implementation techniques for main memory database systems", 1984).
    ``commit`` gets items of one group, in the order in which they came, and returns for each its
    outcome or its error.
    """

    def __init__(
        self, commit: Callable[[str, Sequence[Item]], Awaitable[Sequence[Outcome | ImageLinkError]]]
    ) -> None:
        self._commit = commit
        self._waiting: defaultdict[str, list[tuple[Item, asyncio.Future[Outcome]]]]
        self._waiting = defaultdict(list)
        self._writers: dict[str, asyncio.Task[None]] = {}

    async def write(self, group: str, item: Item) -> Outcome:
        """Write an item; return its outcome or raise its error, or the one of its transaction.

        A call that is cancelled may be written all the same.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[group].append((item, future))
        if group not in self._writers:
            self._writers[group] = asyncio.create_task(self._write_waiting(group))
        return await future

    async def _write_waiting(self, group: str) -> None:
        waiting = self._waiting[group]
        while waiting:
            batch = waiting[:MAX_WRITES]
            del waiting[:MAX_WRITES]
            await self._write(group, batch)
        del self._writers[group], self._waiting[group]

    async def _write(self, group: str, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = await self._commit(group, [item for item, _ in batch])
        except Exception as error:
            outcomes = [error] * len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue  # Its caller was cancelled.
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
