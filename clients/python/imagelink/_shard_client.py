"""The methods of both clients about shards; they need an operator's key.

A shard is given as its number or its resource name, a publisher as its id or its resource name.
"""

# ruff: noqa: ASYNC109 (the timeout is sent to the server, which a scope around the call is not)

from typing import TypeVar

from imagelink import _shard_calls as calls
from imagelink._calls import Call
from imagelink.placement import Placement, Shard

T = TypeVar("T")


class ShardClient:
    """The methods that wait for the answer."""

    def list_shards(self, *, timeout: float | None = None) -> list[Shard]:
        """Lists the shards by number, with what is placed on each."""
        return self._run(calls.list_shards(), timeout)

    def add_shard(self, *, timeout: float | None = None) -> Shard:
        """Adds a shard: it joins, and is active once it has loaded what moves to it."""
        return self._run(calls.add_shard(), timeout)

    def drain_shard(self, shard: int | str, *, timeout: float | None = None) -> Shard:
        """Has a shard's publishers move elsewhere: it is drained once they are loaded there."""
        return self._run(calls.drain_shard(shard), timeout)

    def undrain_shard(self, shard: int | str, *, timeout: float | None = None) -> Shard:
        """Takes back that a shard was drained."""
        return self._run(calls.undrain_shard(shard), timeout)

    def get_placement(self, publisher: str, *, timeout: float | None = None) -> Placement:
        """Gets where a publisher's gallery lives."""
        return self._run(calls.get_placement(publisher), timeout)

    def pin_publisher(
        self, publisher: str, shard: int | str, *, timeout: float | None = None
    ) -> Placement:
        """Puts a publisher's whole gallery on a shard, which loads it first."""
        return self._run(calls.pin_publisher(publisher, shard), timeout)

    def unpin_publisher(self, publisher: str, *, timeout: float | None = None) -> Placement:
        """Leaves it to the server again where a publisher's gallery lives."""
        return self._run(calls.unpin_publisher(publisher), timeout)

    def _run(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError


class AsyncShardClient:
    """The methods that are awaited."""

    async def list_shards(self, *, timeout: float | None = None) -> list[Shard]:
        """Lists the shards by number, with what is placed on each."""
        return await self._run(calls.list_shards(), timeout)

    async def add_shard(self, *, timeout: float | None = None) -> Shard:
        """Adds a shard: it joins, and is active once it has loaded what moves to it."""
        return await self._run(calls.add_shard(), timeout)

    async def drain_shard(self, shard: int | str, *, timeout: float | None = None) -> Shard:
        """Has a shard's publishers move elsewhere: it is drained once they are loaded there."""
        return await self._run(calls.drain_shard(shard), timeout)

    async def undrain_shard(self, shard: int | str, *, timeout: float | None = None) -> Shard:
        """Takes back that a shard was drained."""
        return await self._run(calls.undrain_shard(shard), timeout)

    async def get_placement(self, publisher: str, *, timeout: float | None = None) -> Placement:
        """Gets where a publisher's gallery lives."""
        return await self._run(calls.get_placement(publisher), timeout)

    async def pin_publisher(
        self, publisher: str, shard: int | str, *, timeout: float | None = None
    ) -> Placement:
        """Puts a publisher's whole gallery on a shard, which loads it first."""
        return await self._run(calls.pin_publisher(publisher, shard), timeout)

    async def unpin_publisher(self, publisher: str, *, timeout: float | None = None) -> Placement:
        """Leaves it to the server again where a publisher's gallery lives."""
        return await self._run(calls.unpin_publisher(publisher), timeout)

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError
