"""The methods of both clients about erasure receipts.

They need an operator's key, or one to publish of the publisher that they are about.
"""

# ruff: noqa: ASYNC109 (the timeout is sent to the server, which a scope around the call is not)

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

from imagelink import _erasure_calls as calls
from imagelink._calls import Call
from imagelink._conversions import Page
from imagelink.erasures import ErasureReceipt

T = TypeVar("T")


class ErasureClient:
    """The methods that wait for the answer."""

    def get_erasure_receipt(self, name: str, *, timeout: float | None = None) -> ErasureReceipt:
        """Gets the receipt that a deletion named."""
        return self._run(calls.get_erasure_receipt(name), timeout)

    def list_erasure_receipts(
        self, publisher: str, *, page_size: int = 100, timeout: float | None = None
    ) -> Iterator[ErasureReceipt]:
        """Iterates over the receipts of a publisher's deletions, also after its own."""
        return self._items(
            lambda token: calls.list_erasure_receipts(publisher, page_size, token), timeout
        )

    def _run(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    def _items(
        self, page_call: Callable[[str], Call[Page[T]]], timeout: float | None
    ) -> Iterator[T]:
        raise NotImplementedError


class AsyncErasureClient:
    """The methods that are awaited."""

    async def get_erasure_receipt(
        self, name: str, *, timeout: float | None = None
    ) -> ErasureReceipt:
        """Gets the receipt that a deletion named."""
        return await self._run(calls.get_erasure_receipt(name), timeout)

    def list_erasure_receipts(
        self, publisher: str, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncIterator[ErasureReceipt]:
        """Iterates over the receipts of a publisher's deletions, also after its own."""
        return self._items(
            lambda token: calls.list_erasure_receipts(publisher, page_size, token), timeout
        )

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    def _items(
        self, page_call: Callable[[str], Call[Page[T]]], timeout: float | None
    ) -> AsyncIterator[T]:
        raise NotImplementedError
