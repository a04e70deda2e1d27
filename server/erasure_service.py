"""The methods of the service Publishers about erasure receipts."""

# ruff: noqa: N802 (gRPC names the methods)

from imagelink.v1 import publisher_pb2

from indexing.errors import PublisherNotAllowed
from server import conversions as convert
from server.auth import OPERATE, PUBLISH, Caller
from server.erasing import Eraser
from server.receipts import receipt_message
from server.rpc import rpc

READERS = OPERATE | PUBLISH


class ErasureService:
    """Tells how far erasures are."""

    def __init__(self, eraser: Eraser) -> None:
        self._eraser = eraser

    @rpc(READERS)
    async def GetErasureReceipt(
        self, request: publisher_pb2.GetErasureReceiptRequest, caller: Caller
    ) -> publisher_pb2.ErasureReceipt:
        """Gets the receipt of an erasure."""
        publisher, receipt = convert.parsed_name(
            "name", request.name, "publishers", "erasureReceipts"
        )
        _check(caller, publisher)
        return receipt_message(await self._eraser.receipt(publisher, receipt))

    @rpc(READERS)
    async def ListErasureReceipts(
        self, request: publisher_pb2.ListErasureReceiptsRequest, caller: Caller
    ) -> publisher_pb2.ListErasureReceiptsResponse:
        """Lists the receipts of a publisher's erasures."""
        (publisher,) = convert.parsed_name("parent", request.parent, "publishers")
        _check(caller, publisher)
        size = convert.checked_page_size(request.page_size)
        after = convert.parsed_page_token("receipts", request.page_token)
        found = await self._eraser.receipts(publisher, after, size + 1)
        page, token = convert.paged("receipts", found, size, lambda each: each.erasure.id)
        return publisher_pb2.ListErasureReceiptsResponse(
            erasure_receipts=map(receipt_message, page), next_page_token=token
        )


def _check(caller: Caller, publisher: str) -> None:
    """Refuses a publisher's key for the receipts of another. Raises PublisherNotAllowed."""
    if caller.publisher is not None and caller.publisher.id != publisher:
        raise PublisherNotAllowed(publisher=publisher)
