import asyncio
from collections.abc import Sequence

import pytest

from indexing.errors import DatabaseUnavailable, ImageLinkError, ReferenceAlreadyExists
from indexing.group_commit import MAX_WRITES, GroupCommit


class Database:
    """Commits when told to; remembers its transactions."""

    def __init__(self) -> None:
        self.transactions: list[tuple[str, list[int]]] = []
        self.open = asyncio.Event()

    async def commit(self, group: str, items: Sequence[int]) -> list[str | ImageLinkError]:
        self.transactions.append((group, list(items)))
        await self.open.wait()
        if 13 in items:
            raise DatabaseUnavailable
        return [ReferenceAlreadyExists(reference=item) if item < 0 else str(item) for item in items]


def begin(commit: "GroupCommit[int, str]", group: str, *items: int) -> "list[asyncio.Task[str]]":
    return [asyncio.create_task(commit.write(group, item)) for item in items]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_writes_that_come_during_a_commit_go_together() -> None:
    database = Database()
    commit = GroupCommit(database.commit)
    first = begin(commit, "acme", 1)
    await settled()
    rest = begin(commit, "acme", 2, 3, 4)
    await settled()
    assert database.transactions == [("acme", [1])]

    database.open.set()

    assert await asyncio.gather(*first, *rest) == ["1", "2", "3", "4"]
    assert database.transactions == [("acme", [1]), ("acme", [2, 3, 4])]


async def test_no_transaction_is_larger_than_the_limit() -> None:
    database = Database()
    commit = GroupCommit(database.commit)
    database.open.set()
    numbers = range(100, 100 + 2 * MAX_WRITES + 5)
    assert await asyncio.gather(*begin(commit, "acme", *numbers)) == [str(n) for n in numbers]
    assert [len(items) for _, items in database.transactions] == [MAX_WRITES, MAX_WRITES, 5]


async def test_groups_do_not_wait_for_each_other() -> None:
    database = Database()
    commit = GroupCommit(database.commit)
    tasks = begin(commit, "acme", 1) + begin(commit, "other", 2)
    await settled()
    assert database.transactions == [("acme", [1]), ("other", [2])]
    database.open.set()
    await asyncio.gather(*tasks)


async def test_each_write_has_its_own_outcome() -> None:
    database = Database()
    commit = GroupCommit(database.commit)
    database.open.set()
    outcomes = await asyncio.gather(*begin(commit, "acme", 1, -2, 3), return_exceptions=True)
    assert outcomes[::2] == ["1", "3"]
    assert isinstance(outcomes[1], ReferenceAlreadyExists)


async def test_a_failed_transaction_fails_its_writes_and_no_others() -> None:
    database = Database()
    commit = GroupCommit(database.commit)
    first = begin(commit, "acme", 12, 13)
    await settled()
    rest = begin(commit, "acme", 14)
    database.open.set()
    outcomes = await asyncio.gather(*first, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    assert await rest[0] == "14"
    assert await commit.write("acme", 15) == "15"


async def test_a_cancelled_write_does_not_disturb_the_others() -> None:
    database = Database()
    commit = GroupCommit(database.commit)
    cancelled, other = begin(commit, "acme", 1, 2)
    await settled()
    cancelled.cancel()
    database.open.set()
    assert await other == "2"
    with pytest.raises(asyncio.CancelledError):
        await cancelled
