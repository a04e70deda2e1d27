"""The calls about erasure receipts: for each, its request and the conversion of its answer."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from imagelink._calls import Call, Method, publisher_name
from imagelink._conversions import Page
from imagelink.erasures import ErasureConfirmation, ErasureReceipt, ErasureState
from imagelink.v1 import publisher_pb2


def erasure_state(value: int) -> ErasureState:
    """Converts whether an index still holds what was erased."""
    names = (name for name, number in publisher_pb2.ErasureState.items() if number == value)
    name = next(names, "").removeprefix("ERASURE_STATE_")
    return ErasureState.__members__.get(name, ErasureState.UNKNOWN)


def _confirmation(message: publisher_pb2.ErasureConfirmation) -> ErasureConfirmation:
    state, time = erasure_state(message.state), _time(message, "confirm_time")
    return ErasureConfirmation(message.shard_replica, state, time)


def _receipt(message: publisher_pb2.ErasureReceipt) -> ErasureReceipt:
    return ErasureReceipt(
        name=message.name,
        subject=message.subject,
        reference_count=message.reference_count,
        image_count=message.image_count,
        feature_count=message.feature_count,
        blob_count=message.blob_count,
        request_time=message.request_time.ToDatetime(tzinfo=UTC),
        blob_delete_time=_time(message, "blob_delete_time"),
        complete_time=_time(message, "complete_time"),
        confirmations=tuple(map(_confirmation, message.confirmations)),
        scan_count=message.scan_count,
    )


def _page(message: publisher_pb2.ListErasureReceiptsResponse) -> Page[ErasureReceipt]:
    return Page(tuple(map(_receipt, message.erasure_receipts)), message.next_page_token)


def _time(message: Message, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    time: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    return time


GET_ERASURE_RECEIPT = Method(
    "Publishers", "GetErasureReceipt", publisher_pb2.ErasureReceipt, _receipt, retried=True
)
LIST_ERASURE_RECEIPTS = Method(
    "Publishers",
    "ListErasureReceipts",
    publisher_pb2.ListErasureReceiptsResponse,
    _page,
    retried=True,
)

METHODS: tuple[Method[Any, Any], ...] = (GET_ERASURE_RECEIPT, LIST_ERASURE_RECEIPTS)


def get_erasure_receipt(name: str) -> Call[ErasureReceipt]:
    """Gets the receipt of an erasure."""
    return Call(GET_ERASURE_RECEIPT, publisher_pb2.GetErasureReceiptRequest(name=name))


def list_erasure_receipts(
    publisher: str, page_size: int, page_token: str
) -> Call[Page[ErasureReceipt]]:
    """Lists a page of receipts."""
    request = publisher_pb2.ListErasureReceiptsRequest(
        parent=publisher_name(publisher), page_size=page_size, page_token=page_token
    )
    return Call(LIST_ERASURE_RECEIPTS, request)
