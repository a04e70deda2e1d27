import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from indexing.errors import FieldInvalid, ImageLinkError, Overloaded
from server.fair_queue import FairQueue, QueueLimits


class Worker:
    """Does what it is given as soon as it may; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may = asyncio.Event()

    async def work(self, items: Sequence[str]) -> list[str | ImageLinkError]:
        self.batches.append(list(items))
        await self.may.wait()
        if any("broken" in item for item in items):
            raise RuntimeError
        return [
            FieldInvalid(field="image", problem="bad") if "bad" in item else item.upper()
            for item in items
        ]


def limits(**other: float) -> QueueLimits:
    usual = {"workers": 1, "batch_size": 2, "capacity": 100, "longest_wait": 60.0}
    return QueueLimits(**usual | other)  # type: ignore[arg-type]


def ask(queue: "FairQueue[str, str]", *items: str, weight: int = 1) -> "list[asyncio.Task[str]]":
    """Asks for items, whose first letter is their publisher."""
    return [asyncio.create_task(queue.ask(item[0], item, weight)) for item in items]


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def test_an_idle_worker_begins_at_once(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits())
    worker.may.set()
    assert await queue.ask("a", "a1") == "A1"
    assert worker.batches == [["a1"]]


async def test_what_comes_meanwhile_goes_together(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits())
    asked = ask(queue, "a1", "a2", "a3", "a4")
    await settled()
    worker.may.set()
    assert await asyncio.gather(*asked) == ["A1", "A2", "A3", "A4"]
    assert worker.batches == [["a1"], ["a2", "a3"], ["a4"]]


async def test_so_many_batches_are_worked_on_at_once(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(workers=3, batch_size=1))
    asked = ask(queue, "a1", "a2", "a3", "a4")
    await settled()
    assert worker.batches == [["a1"], ["a2"], ["a3"]]
    worker.may.set()
    await asyncio.gather(*asked)


async def test_publishers_take_turns_however_much_one_asks_for(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits())
    flood = ask(queue, *(f"f{number}" for number in range(9)))
    await settled()
    others = ask(queue, "a1", "b1", "a2")
    await settled()
    worker.may.set()
    await asyncio.gather(*flood, *others)
    assert worker.batches[:4] == [["f0"], ["f1", "a1"], ["b1", "f2"], ["a2", "f3"]]


async def test_a_turn_takes_as_many_as_the_publisher_weighs(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(batch_size=1))
    asked = ask(queue, "first")
    await settled()
    asked += ask(queue, "a1", "a2", "a3", "a4") + ask(queue, "h1", "h2", "h3", "h4", weight=3)
    await settled()
    worker.may.set()
    await asyncio.gather(*asked)
    order = [item for batch in worker.batches for item in batch]
    assert order == ["first", "a1", "h1", "h2", "h3", "a2", "h4", "a3", "a4"]


async def test_a_weight_holds_from_the_next_item_on(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(batch_size=1))
    asked = ask(queue, "first")
    await settled()
    asked += ask(queue, "h1", "h2", weight=2) + ask(queue, "a1", "a2") + ask(queue, "h3", weight=1)
    await settled()
    worker.may.set()
    await asyncio.gather(*asked)
    assert [batch[0] for batch in worker.batches] == ["first", "h1", "a1", "h2", "a2", "h3"]


async def test_where_too_many_wait_a_weight_counts_too(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(capacity=5))
    asked = ask(queue, "first")
    await settled()
    asked += ask(queue, "h1", "h2", "h3", weight=2) + ask(queue, "a1", "a2", "a3")
    await settled()
    worker.may.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers.pop(6), Overloaded)
    assert answers == ["FIRST", "H1", "H2", "H3", "A1", "A2"]


async def test_one_who_comes_back_at_once_waits_for_the_others(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(batch_size=1))
    asked = ask(queue, "a1", "b1", "c1")
    await settled()
    asked += ask(queue, "a2")
    await settled()
    worker.may.set()
    await asyncio.gather(*asked)
    assert worker.batches == [["a1"], ["b1"], ["c1"], ["a2"]]


async def test_an_error_is_its_items_alone(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(batch_size=3))
    asked = ask(queue, "a1", "a2", "a-bad", "a3")
    worker.may.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [answers[n] for n in (0, 1, 3)] == ["A1", "A2", "A3"]
    assert isinstance(answers[2], FieldInvalid)


async def test_a_fault_in_a_batch_is_its_items_alone(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(batch_size=3))
    asked = ask(queue, "a1", "a2", "a-broken", "a3")
    worker.may.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [answers[n] for n in (0, 1, 3)] == ["A1", "A2", "A3"]
    assert isinstance(answers[2], RuntimeError)
    assert await queue.ask("a", "a4") == "A4"


async def test_who_floods_leaves_others_a_worker(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(workers=4, batch_size=1))
    asked = ask(queue, "f1", "f2", "f3", "f4", "f5")
    await settled()
    assert worker.batches == [["f1"], ["f2"], ["f3"]]
    asked += ask(queue, "a1")
    await settled()
    assert worker.batches[3:] == [["a1"]]
    worker.may.set()
    assert await asyncio.gather(*asked) == ["F1", "F2", "F3", "F4", "F5", "A1"]


async def test_what_waited_too_long_is_refused_and_not_begun(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(longest_wait=0.05))
    asked = ask(queue, "a1", "a2", "b1")
    await settled()
    await asyncio.sleep(0.06)
    late = ask(queue, "a3")
    await settled()
    worker.may.set()
    answers = await asyncio.gather(*asked, *late, return_exceptions=True)
    assert [answers[0], answers[3]] == ["A1", "A3"]
    assert [type(answer) for answer in answers[1:3]] == [Overloaded, Overloaded]
    assert worker.batches == [["a1"], ["a3"]]


async def test_of_a_queue_that_does_not_empty_half_as_long_is_too_long(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("server.fair_queue.time", SimpleNamespace(monotonic=lambda: clock[0]))
    queue = FairQueue(worker.work, limits(longest_wait=2.0, batch_size=9))
    asked = ask(queue, "a1", "a2")
    await settled()
    clock[0] += 1.0
    asked += ask(queue, "a3", "b1")
    await settled()
    # The first has waited for longer than that, the others for 1.5 s: of b nothing did before.
    clock[0] += 1.5
    asked += ask(queue, "a4")
    await settled()
    worker.may.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in answers[1:3]] == [Overloaded, Overloaded]
    assert [answers[0], *answers[3:]] == ["A1", "B1", "A4"]


async def test_where_too_many_wait_the_last_of_who_has_the_most_is_refused(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits(capacity=4))
    asked = ask(queue, "f0", "f1", "f2", "f3", "f4", "a1")
    await settled()
    assert queue.waiting == 4
    worker.may.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers.pop(4), Overloaded)
    assert answers == ["F0", "F1", "F2", "F3", "A1"]


async def test_what_nobody_waits_for_any_more_is_not_begun(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits())
    asked = ask(queue, "a1", "a2", "b1")
    await settled()
    asked[1].cancel()
    await settled()
    assert queue.waiting == 1
    worker.may.set()
    assert await asyncio.gather(asked[0], asked[2]) == ["A1", "B1"]
    assert worker.batches == [["a1"], ["b1"]]


async def test_a_caller_that_goes_during_the_work_leaves_the_queue_whole(worker: Worker) -> None:
    queue = FairQueue(worker.work, limits())
    (gone,) = ask(queue, "a1")
    await settled()
    gone.cancel()
    await settled()
    worker.may.set()
    assert await queue.ask("a", "a2") == "A2"


async def test_work_that_is_cancelled_leaves_the_queue_whole(worker: Worker) -> None:
    async def work(items: Sequence[str]) -> list[str | ImageLinkError]:
        if "cancelled" in items[0]:
            raise asyncio.CancelledError
        return await worker.work(items)

    queue = FairQueue(work, limits())
    worker.may.set()
    with pytest.raises(asyncio.CancelledError):
        await queue.ask("a", "a cancelled")
    assert await queue.ask("a", "a2") == "A2"
