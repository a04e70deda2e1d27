"""The calls of the API: for each, its request and the conversion of its answer.

``Client`` and ``AsyncClient`` only run what is described here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from imagelink import _conversions as convert
from imagelink._conversions import Page
from imagelink.erasures import Deletion, PublisherDeletion
from imagelink.types import (
    AddedImage,
    ApiKey,
    Assessment,
    ExplanationResult,
    Publisher,
    Reference,
    Role,
    ScanResult,
    Written,
)
from imagelink.v1 import gallery_pb2, publisher_pb2, recognition_pb2

ImageSource: TypeAlias = bytes | str | os.PathLike[str]
"""An encoded image: its bytes, or the path of its file."""

Answer = TypeVar("Answer", bound=Message)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Method(Generic[Answer, Result]):
    """A method of the API."""

    service: str
    name: str
    answer: type[Answer]
    convert: Callable[[Answer], Result]
    retried: bool = False
    """Whether it may run twice: a read, or a write which names its ``request_id``."""

    @property
    def path(self) -> str:
        """The method as gRPC names it."""
        return f"/imagelink.v1.{self.service}/{self.name}"


@dataclass(frozen=True)
class Call(Generic[Result]):
    """A method with its request."""

    method: Method[Any, Result]
    request: Message


SCAN = Method(
    "Recognition", "Scan", recognition_pb2.ScanResponse, convert.scan_result, retried=True
)
EXPLAIN = Method(
    "Recognition",
    "Explain",
    recognition_pb2.ExplainResponse,
    convert.explanation_result,
    retried=True,
)
REGISTER = Method(
    "Gallery", "Register", gallery_pb2.RegisterResponse, convert.registered, retried=True
)
ASSESS_IMAGE = Method(
    "Gallery", "AssessImage", gallery_pb2.AssessImageResponse, convert.assessed_image, retried=True
)
BATCH_REGISTER = Method(
    "Gallery", "BatchRegister", gallery_pb2.BatchRegisterResponse, convert.batch_outcome
)
GET_REFERENCE = Method(
    "Gallery", "GetReference", gallery_pb2.Reference, convert.reference, retried=True
)
LIST_REFERENCES = Method(
    "Gallery",
    "ListReferences",
    gallery_pb2.ListReferencesResponse,
    convert.reference_page,
    retried=True,
)
UPDATE_REFERENCE = Method(
    "Gallery", "UpdateReference", gallery_pb2.UpdateReferenceResponse, convert.updated
)
DELETE_REFERENCE = Method(
    "Gallery", "DeleteReference", gallery_pb2.DeleteReferenceResponse, convert.deletion
)
ADD_IMAGE = Method("Gallery", "AddImage", gallery_pb2.AddImageResponse, convert.image_added)
REMOVE_IMAGE = Method(
    "Gallery", "RemoveImage", gallery_pb2.RemoveImageResponse, convert.image_removed
)
CREATE_PUBLISHER = Method(
    "Publishers", "CreatePublisher", publisher_pb2.Publisher, convert.publisher
)
GET_PUBLISHER = Method(
    "Publishers", "GetPublisher", publisher_pb2.Publisher, convert.publisher, retried=True
)
LIST_PUBLISHERS = Method(
    "Publishers",
    "ListPublishers",
    publisher_pb2.ListPublishersResponse,
    convert.publisher_page,
    retried=True,
)
UPDATE_PUBLISHER = Method(
    "Publishers", "UpdatePublisher", publisher_pb2.Publisher, convert.publisher
)
DELETE_PUBLISHER = Method(
    "Publishers",
    "DeletePublisher",
    publisher_pb2.DeletePublisherResponse,
    convert.publisher_deletion,
)
EXPORT_GALLERY = Method(
    "Publishers", "ExportGallery", publisher_pb2.ExportGalleryResponse, convert.archive_chunk
)
IMPORT_GALLERY = Method(
    "Publishers", "ImportGallery", publisher_pb2.ImportGalleryResponse, convert.import_result
)
CREATE_API_KEY = Method(
    "Publishers", "CreateApiKey", publisher_pb2.CreateApiKeyResponse, convert.created_api_key
)
LIST_API_KEYS = Method(
    "Publishers", "ListApiKeys", publisher_pb2.ListApiKeysResponse, convert.api_keys, retried=True
)
REVOKE_API_KEY = Method("Publishers", "RevokeApiKey", publisher_pb2.ApiKey, convert.api_key)

METHODS: tuple[Method[Any, Any], ...] = (
    SCAN,
    EXPLAIN,
    REGISTER,
    BATCH_REGISTER,
    ASSESS_IMAGE,
    GET_REFERENCE,
    LIST_REFERENCES,
    UPDATE_REFERENCE,
    DELETE_REFERENCE,
    ADD_IMAGE,
    REMOVE_IMAGE,
    CREATE_PUBLISHER,
    GET_PUBLISHER,
    LIST_PUBLISHERS,
    UPDATE_PUBLISHER,
    DELETE_PUBLISHER,
    EXPORT_GALLERY,
    IMPORT_GALLERY,
    CREATE_API_KEY,
    LIST_API_KEYS,
    REVOKE_API_KEY,
)


def read_image(image: ImageSource) -> bytes:
    """The bytes of an image, from its file where a path is given."""
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def scan(image: bytes, min_gallery_version: int) -> Call[ScanResult]:
    """Recognises the references in a photo."""
    request = recognition_pb2.ScanRequest(image=image, min_gallery_version=min_gallery_version)
    return Call(SCAN, request)


def explain(
    image: bytes,
    reference: str | None,
    publisher: str | None,
    min_gallery_version: int,
    max_explanations: int,
) -> Call[ExplanationResult]:
    """Explains what a scan of a photo finds."""
    request = recognition_pb2.ExplainRequest(
        image=image,
        reference=child_name(publisher, "references", reference) if reference else "",
        min_gallery_version=min_gallery_version,
        max_explanations=max_explanations,
    )
    return Call(EXPLAIN, request)


def register(
    image: bytes,
    link: str,
    reference_id: str,
    metadata: Mapping[str, str] | None,
    request_id: str,
    assess: bool,
    publisher: str | None,
) -> Call[Written]:
    """Registers a reference with its image."""
    return Call(
        REGISTER,
        register_request(image, link, reference_id, metadata, request_id, assess, publisher),
    )


def register_request(
    image: bytes,
    link: str,
    reference_id: str,
    metadata: Mapping[str, str] | None,
    request_id: str,
    assess: bool,
    publisher: str | None,
) -> gallery_pb2.RegisterRequest:
    """What to register, for a call of its own or as an item of a batch."""
    return gallery_pb2.RegisterRequest(
        parent=_own_or(publisher),
        reference_id=reference_id,
        reference=gallery_pb2.Reference(link=link, metadata=metadata or {}),
        image=image,
        request_id=request_id,
        assess=assess,
    )


def assess_image(image: bytes, publisher: str | None) -> Call[Assessment]:
    """Assesses an image as if it were registered."""
    request = gallery_pb2.AssessImageRequest(parent=_own_or(publisher), image=image)
    return Call(ASSESS_IMAGE, request)


def get_reference(reference: str, publisher: str | None) -> Call[Reference]:
    """Gets a reference."""
    name = child_name(publisher, "references", reference)
    return Call(GET_REFERENCE, gallery_pb2.GetReferenceRequest(name=name))


def list_references(
    publisher: str | None, conditions: str, page_size: int, page_token: str
) -> Call[Page[Reference]]:
    """Lists a page of the references that pass a filter."""
    request = gallery_pb2.ListReferencesRequest(
        parent=_own_or(publisher), page_size=page_size, page_token=page_token, filter=conditions
    )
    return Call(LIST_REFERENCES, request)


def update_reference(
    reference: str,
    link: str | None,
    metadata: Mapping[str, str] | None,
    active: bool | None,
    publisher: str | None,
) -> Call[Written]:
    """Changes the fields of a reference that are not None."""
    changes = given(link=link, metadata=metadata, active=active)
    name = child_name(publisher, "references", reference)
    request = gallery_pb2.UpdateReferenceRequest(
        reference=gallery_pb2.Reference(name=name, **changes),
        update_mask=FieldMask(paths=list(changes)),
    )
    return Call(UPDATE_REFERENCE, request)


def delete_reference(reference: str, publisher: str | None) -> Call[Deletion]:
    """Deletes a reference."""
    name = child_name(publisher, "references", reference)
    return Call(DELETE_REFERENCE, gallery_pb2.DeleteReferenceRequest(name=name))


def add_image(reference: str, image: bytes, publisher: str | None) -> Call[AddedImage]:
    """Adds an image to a reference."""
    name = child_name(publisher, "references", reference)
    return Call(ADD_IMAGE, gallery_pb2.AddImageRequest(name=name, image=image))


def remove_image(reference: str, image_id: str, publisher: str | None) -> Call[Written]:
    """Removes an image from a reference."""
    name = child_name(publisher, "references", reference)
    return Call(REMOVE_IMAGE, gallery_pb2.RemoveImageRequest(name=name, image_id=image_id))


def create_publisher(
    publisher_id: str,
    display_name: str,
    false_accept_budget: float | None,
    scan_weight: int | None,
    max_scans_per_second: float | None,
    max_references: int | None,
    max_kept_scans: int | None,
) -> Call[Publisher]:
    """Creates a publisher."""
    request = publisher_pb2.CreatePublisherRequest(
        publisher_id=publisher_id,
        publisher=publisher_pb2.Publisher(
            display_name=display_name,
            **given(
                false_accept_budget=false_accept_budget,
                scan_weight=scan_weight,
                max_scans_per_second=max_scans_per_second,
                max_references=max_references,
                max_kept_scans=max_kept_scans,
            ),
        ),
    )
    return Call(CREATE_PUBLISHER, request)


def get_publisher(publisher: str) -> Call[Publisher]:
    """Gets a publisher."""
    request = publisher_pb2.GetPublisherRequest(name=publisher_name(publisher))
    return Call(GET_PUBLISHER, request)


def list_publishers(page_size: int, page_token: str) -> Call[Page[Publisher]]:
    """Lists a page of publishers."""
    request = publisher_pb2.ListPublishersRequest(page_size=page_size, page_token=page_token)
    return Call(LIST_PUBLISHERS, request)


def update_publisher(
    publisher: str,
    display_name: str | None,
    suspended: bool | None,
    false_accept_budget: float | None,
    scan_weight: int | None,
    max_scans_per_second: float | None,
    max_references: int | None,
    max_kept_scans: int | None,
) -> Call[Publisher]:
    """Changes the fields of a publisher that are not None."""
    changes = given(
        display_name=display_name,
        suspended=suspended,
        false_accept_budget=false_accept_budget,
        scan_weight=scan_weight,
        max_scans_per_second=max_scans_per_second,
        max_references=max_references,
        max_kept_scans=max_kept_scans,
    )
    request = publisher_pb2.UpdatePublisherRequest(
        publisher=publisher_pb2.Publisher(name=publisher_name(publisher), **changes),
        update_mask=FieldMask(paths=list(changes)),
    )
    return Call(UPDATE_PUBLISHER, request)


def delete_publisher(publisher: str) -> Call[PublisherDeletion]:
    """Deletes a publisher and all that is its."""
    request = publisher_pb2.DeletePublisherRequest(name=publisher_name(publisher))
    return Call(DELETE_PUBLISHER, request)


def create_api_key(
    publisher: str, role: Role | str, display_name: str, expire_time: datetime | None
) -> Call[tuple[ApiKey, str]]:
    """Creates an API key of a publisher."""
    value = publisher_pb2.Role.Value(f"ROLE_{Role(role).name}")
    key = publisher_pb2.ApiKey(role=value, display_name=display_name)
    if expire_time is not None:
        if expire_time.tzinfo is None:
            raise ValueError(f"The expire_time {expire_time} has no time zone.")
        key.expire_time.FromDatetime(expire_time)
    parent = publisher_name(publisher)
    return Call(CREATE_API_KEY, publisher_pb2.CreateApiKeyRequest(parent=parent, api_key=key))


def list_api_keys(publisher: str) -> Call[list[ApiKey]]:
    """Lists the API keys of a publisher."""
    request = publisher_pb2.ListApiKeysRequest(parent=publisher_name(publisher))
    return Call(LIST_API_KEYS, request)


def revoke_api_key(api_key: str, publisher: str | None) -> Call[ApiKey]:
    """Revokes an API key."""
    name = child_name(publisher, "apiKeys", api_key)
    return Call(REVOKE_API_KEY, publisher_pb2.RevokeApiKeyRequest(name=name))


def publisher_name(publisher: str) -> str:
    """The resource name of a publisher, given it or the bare id."""
    return publisher if "/" in publisher else f"publishers/{publisher}"


def child_name(publisher: str | None, collection: str, child: str) -> str:
    """The resource name of what belongs to a publisher, given it or the bare id."""
    if "/" in child:
        return child
    if not publisher:
        raise ValueError(
            f"The bare id '{child}' does not say whose it is: give the publisher too, "
            f"or the full name 'publishers/PUBLISHER/{collection}/{child}'."
        )
    return f"{publisher_name(publisher)}/{collection}/{child}"


def _own_or(publisher: str | None) -> str:
    """The parent to name: empty for the publisher that the key belongs to."""
    return publisher_name(publisher) if publisher else ""


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
