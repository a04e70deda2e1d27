"""Proto messages of erasure receipts."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from imagelink.v1 import publisher_pb2

from indexing.gallery_erasures import Confirmation, Erasure, Receipt
from server.conversions import publisher_name, reference_name, timestamp


def receipt_name(erasure: Erasure) -> str:
    """``publishers/{publisher}/erasureReceipts/{erasure_receipt}``."""
    return f"{publisher_name(erasure.publisher)}/erasureReceipts/{erasure.id}"


def receipt_message(receipt: Receipt) -> publisher_pb2.ErasureReceipt:
    """The receipt of an erasure."""
    erasure = receipt.erasure
    publisher, erased = erasure.publisher, erasure.reference
    return publisher_pb2.ErasureReceipt(
        name=receipt_name(erasure),
        subject=reference_name(publisher, erased) if erased else publisher_name(publisher),
        reference_count=erasure.references,
        image_count=erasure.images,
        feature_count=erasure.features,
        blob_count=erasure.blobs,
        scan_count=erasure.scans,
        request_time=timestamp(erasure.request_time),
        blob_delete_time=_timestamp(erasure.blob_delete_time),
        complete_time=_timestamp(erasure.complete_time),
        confirmations=[_confirmation_message(each) for each in receipt.confirmations],
    )


def _confirmation_message(confirmation: Confirmation) -> publisher_pb2.ErasureConfirmation:
    return publisher_pb2.ErasureConfirmation(
        shard_replica=confirmation.replica,
        state=publisher_pb2.ErasureState.Value(f"ERASURE_STATE_{confirmation.state.name}"),
        confirm_time=_timestamp(confirmation.time),
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    return timestamp(time) if time else None
