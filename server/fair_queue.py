"""Work that waits: publishers take turns, what is next goes together, what is too much is refused."""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from indexing.errors import ImageLinkError, Overloaded

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Of the longest wait: what scans of a publisher wait at most whose queue has not been empty for that long.
STANDING = 0.5
# Of all that is done at once, one in so many is never of a publisher that has the rest.
KEPT_FREE = 4


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Sizes of a queue: batches at once, items in each, and what may wait, and for how many seconds."""

    workers: int
    batch_size: int
    capacity: int
    longest_wait: float

    @property
    def most_of_one(self) -> int:
        """How many items of one publisher are done at once at most."""
        at_once = self.workers * self.batch_size
        return at_once - at_once // KEPT_FREE


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Item, Outcome]):
    publisher: str
    item: Item
    since: float
    answer: asyncio.Future[Outcome]


@dataclass(slots=True)
class _Turn(Generic[Item, Outcome]):
    """What waits of one publisher, since when anything does, and how many items its turn has taken."""

    weight: int
    since: float
    waiting: deque[_Waiting[Item, Outcome]] = field(default_factory=deque)
    taken: int = 0


class FairQueue(Generic[Item, Outcome]):
    """Has work done in batches, each of which takes from the publishers in turns.

    Nothing waits for company: a worker that is free takes what there is, so batches grow with the
    load. However much one publisher asks for, another's next item comes within one turn of all
    (fair queueing: Nagle, RFC 970, 1985), in which each has as many as it weighs (weighted round
    robin: Katevenis et al., 1991). A quarter of what is done at once no publisher takes alone, so
    that one that floods leaves others a worker. Items that have waited too long are refused when their
    turn comes: of a publisher whose queue does not empty, half as long is too long, so that a burst
    waits, and what comes too fast is answered soon or not at all (as in controlled delay: Nichols and
    Jacobson, 2012). Where too many wait, the last of the publisher with the most for its weight is
    refused (longest queue drop: Suter et al., 1998). Items whose caller is gone are never begun.

    ``work`` gets a batch and returns for each item its outcome or its error.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | ImageLinkError]]],
        limits: QueueLimits,
    ) -> None:
        self._work = work
        self._limits = limits
        # Not that of whoever happens to have a batch begun: it would be in that one's trace and log,
        # and Ray would cancel its searches when that one gives up.
        self._context = copy_context()
        self._free = limits.workers
        self._begun: Counter[str] = Counter()
        self._turns: OrderedDict[str, _Turn[Item, Outcome]] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return sum(len(turn.waiting) for turn in self._turns.values())

    async def ask(self, publisher: str, item: Item, weight: int = 1) -> Outcome:
        """The outcome of an item of a publisher that weighs so much now.

        Raises its error, or Overloaded.
        """
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(publisher, item, time.monotonic(), answer)
        turn = self._turns.setdefault(publisher, _Turn(weight, waiting.since))
        turn.weight = weight
        turn.waiting.append(waiting)
        self._begin()
        if self.waiting > self._limits.capacity:
            self._refuse_one()
        try:
            return await answer
        finally:
            self._leave(waiting)

    def _begin(self) -> None:
        while self._free and (batch := self._next_batch()):
            self._free -= 1
            task = asyncio.create_task(self._run(batch), context=self._context.copy())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _next_batch(self) -> list[_Waiting[Item, Outcome]]:
        batch: list[_Waiting[Item, Outcome]] = []
        now, longest = time.monotonic(), self._limits.longest_wait
        while len(batch) < self._limits.batch_size and (publisher := self._next_publisher()):
            turn = self._turns[publisher]
            oldest = now - (longest if now - turn.since < longest else STANDING * longest)
            while turn.waiting and turn.waiting[0].since < oldest:
                _refuse(turn.waiting.popleft())
            if turn.waiting:
                batch.append(turn.waiting.popleft())
                self._begun[publisher] += 1
                turn.taken += 1
            if not turn.waiting:
                del self._turns[publisher]
            elif turn.taken >= turn.weight:
                turn.taken = 0
                self._turns.move_to_end(publisher)
        return batch

    def _next_publisher(self) -> str | None:
        most = self._limits.most_of_one
        return next((each for each in self._turns if self._begun[each] < most), None)

    async def _run(self, batch: Sequence[_Waiting[Item, Outcome]]) -> None:
        try:
            outcomes = await self._outcomes([waiting.item for waiting in batch])
            for waiting, outcome in zip(batch, outcomes, strict=True):
                _answer(waiting, outcome)
        finally:
            for waiting in batch:
                waiting.answer.cancel()  # Only where the work was: the others are answered.
            self._begun -= Counter(waiting.publisher for waiting in batch)
            self._free += 1
            self._begin()

    async def _outcomes(self, items: Sequence[Item]) -> Sequence[Outcome | Exception]:
        try:
            return await self._work(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
        # One item's fault is not to be the others'.
        return [outcome for item in items for outcome in await self._outcomes([item])]

    def _refuse_one(self) -> None:
        publisher, turn = max(
            self._turns.items(), key=lambda each: len(each[1].waiting) / each[1].weight
        )
        _refuse(turn.waiting.pop())
        if not turn.waiting:
            del self._turns[publisher]

    def _leave(self, waiting: _Waiting[Item, Outcome]) -> None:
        """Forgets an item that nobody waits for any more, if it was not begun."""
        turn = self._turns.get(waiting.publisher)
        if turn is not None and waiting in turn.waiting:
            turn.waiting.remove(waiting)
            if not turn.waiting:
                del self._turns[waiting.publisher]


def _answer(waiting: _Waiting[Item, Outcome], outcome: Outcome | Exception) -> None:
    if waiting.answer.done():
        return  # Its caller is gone.
    if isinstance(outcome, Exception):
        waiting.answer.set_exception(outcome)
    else:
        waiting.answer.set_result(outcome)


def _refuse(waiting: _Waiting[Item, Outcome]) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(Overloaded())
