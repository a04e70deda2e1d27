"""The gRPC servicer of the service Gallery."""

# ruff: noqa: N802 (gRPC names the methods)

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

from imagelink.v1 import gallery_pb2

from indexing.errors import FieldInvalid, ImageLinkError
from indexing.gallery import GalleryStore
from server import conversions as convert
from server.assessment import Assessor
from server.audit import audited, writing
from server.auth import PUBLISH, Caller
from server.erasing import Eraser
from server.filters import parsed_filter
from server.ownership import own_publisher, own_reference, publisher_of
from server.receipts import receipt_name
from server.registration import Registrar, Registration
from server.rpc import logged_fault, rpc
from server.status import to_status
from server.streaming import side_by_side, stream_rpc

REFERENCE_FIELDS = frozenset({"link", "metadata", "active"})
# Unanswered items of a stream, as the API tells; and items in work of all streams together, whose
# images take 256 MiB at most.
BATCH_WINDOW, BATCH_SLOTS = 32, 32
NOT_ASSESSED = "a batch is registered without assessments; call AssessImage for them."


class GalleryService:
    """The methods of the service Gallery."""

    def __init__(
        self,
        store: GalleryStore,
        registrar: Registrar,
        eraser: Eraser,
        assessor: Assessor,
    ) -> None:
        self._store = store
        self._registrar = registrar
        self._eraser = eraser
        self._assessor = assessor
        self._batch_slots = asyncio.Semaphore(BATCH_SLOTS)

    @rpc(PUBLISH)
    @audited
    async def Register(
        self, request: gallery_pb2.RegisterRequest, caller: Caller
    ) -> gallery_pb2.RegisterResponse:
        """Registers a reference, and assesses it if asked to."""
        written = await self._registrar.register(_registration(caller, request))
        answer = convert.registered_message(written)
        if request.assess:
            publisher = publisher_of(caller)
            made = await self._assessor.assess_registered(publisher, request.image, written)
            if made:
                answer.assessment.CopyFrom(convert.assessment_message(publisher.id, made))
        return answer

    @stream_rpc(PUBLISH)
    async def BatchRegister(
        self, requests: AsyncIterator[gallery_pb2.BatchRegisterRequest], caller: Caller
    ) -> AsyncGenerator[gallery_pb2.BatchRegisterResponse, None]:
        """Registers a stream of references."""
        register = partial(self._register_item, caller)
        results = side_by_side(requests, register, BATCH_WINDOW, self._batch_slots)
        async with aclosing(results):
            async for number, answer in results:
                answer.item_number = number
                yield answer

    async def _register_item(
        self, caller: Caller, request: gallery_pb2.BatchRegisterRequest
    ) -> gallery_pb2.BatchRegisterResponse:
        try:
            return gallery_pb2.BatchRegisterResponse(
                response=await self._register(caller, request.item)
            )
        except ImageLinkError as error:
            return gallery_pb2.BatchRegisterResponse(error=to_status(error))
        except Exception as error:
            fault = logged_fault("BatchRegister", error)
            return gallery_pb2.BatchRegisterResponse(error=to_status(fault))

    async def _register(
        self, caller: Caller, item: gallery_pb2.RegisterRequest
    ) -> gallery_pb2.RegisterResponse:
        with writing("BatchRegister", caller) as write:
            write.request = item
            if item.assess:
                raise FieldInvalid(field="assess", problem=NOT_ASSESSED)
            written = await self._registrar.register(_registration(caller, item))
            write.answer = answer = convert.registered_message(written)
            return answer

    @rpc(PUBLISH)
    async def AssessImage(
        self, request: gallery_pb2.AssessImageRequest, caller: Caller
    ) -> gallery_pb2.AssessImageResponse:
        """Assesses an image."""
        own_publisher(caller, request.parent)
        publisher = publisher_of(caller)
        made = await self._assessor.assess(publisher, request.image)
        return gallery_pb2.AssessImageResponse(
            assessment=convert.assessment_message(publisher.id, made)
        )

    @rpc(PUBLISH)
    async def GetReference(
        self, request: gallery_pb2.GetReferenceRequest, caller: Caller
    ) -> gallery_pb2.Reference:
        """Gets a reference."""
        publisher, reference = own_reference(caller, "name", request.name)
        return convert.reference_message(await self._store.get_reference(publisher, reference))

    @rpc(PUBLISH)
    async def ListReferences(
        self, request: gallery_pb2.ListReferencesRequest, caller: Caller
    ) -> gallery_pb2.ListReferencesResponse:
        """Lists references."""
        publisher = own_publisher(caller, request.parent)
        size = convert.checked_page_size(request.page_size)
        conditions = parsed_filter("filter", request.filter)
        kind = _page_kind(request.filter)
        after = convert.parsed_page_token(kind, request.page_token)
        found = await self._store.list_references(publisher, after, size + 1, conditions)
        page, token = convert.paged(kind, found, size, lambda each: each.id)
        return gallery_pb2.ListReferencesResponse(
            references=map(convert.reference_message, page),
            next_page_token=token,
            total_size=await self._store.count_references(publisher, conditions),
        )

    @rpc(PUBLISH)
    @audited
    async def UpdateReference(
        self, request: gallery_pb2.UpdateReferenceRequest, caller: Caller
    ) -> gallery_pb2.UpdateReferenceResponse:
        """Changes a reference."""
        given = request.reference
        publisher, reference = own_reference(caller, "reference.name", given.name)
        mask = convert.checked_mask(request.update_mask.paths, REFERENCE_FIELDS)
        written = await self._store.update_reference(
            publisher,
            reference,
            link=convert.checked_link("reference.link", given.link) if "link" in mask else None,
            metadata=convert.checked_metadata("reference.metadata", given.metadata)
            if "metadata" in mask
            else None,
            active=given.active if "active" in mask else None,
        )
        return gallery_pb2.UpdateReferenceResponse(
            reference=convert.reference_message(written.reference),
            gallery_version=written.gallery_version,
        )

    @rpc(PUBLISH)
    @audited
    async def DeleteReference(
        self, request: gallery_pb2.DeleteReferenceRequest, caller: Caller
    ) -> gallery_pb2.DeleteReferenceResponse:
        """Deletes a reference."""
        publisher, reference = own_reference(caller, "name", request.name)
        erasure = await self._eraser.delete_reference(publisher, reference)
        return gallery_pb2.DeleteReferenceResponse(
            gallery_version=erasure.gallery_version, erasure_receipt=receipt_name(erasure)
        )

    @rpc(PUBLISH)
    @audited
    async def AddImage(
        self, request: gallery_pb2.AddImageRequest, caller: Caller
    ) -> gallery_pb2.AddImageResponse:
        """Adds an image to a reference."""
        publisher, reference = own_reference(caller, "name", request.name)
        written, image = await self._registrar.add_image(publisher, reference, request.image)
        return gallery_pb2.AddImageResponse(
            reference=convert.reference_message(written.reference),
            gallery_version=written.gallery_version,
            image_id=image.id,
        )

    @rpc(PUBLISH)
    @audited
    async def RemoveImage(
        self, request: gallery_pb2.RemoveImageRequest, caller: Caller
    ) -> gallery_pb2.RemoveImageResponse:
        """Removes an image from a reference."""
        publisher, reference = own_reference(caller, "name", request.name)
        image = convert.checked_uuid("image_id", request.image_id)
        written = await self._registrar.remove_image(publisher, reference, image)
        return gallery_pb2.RemoveImageResponse(
            reference=convert.reference_message(written.reference),
            gallery_version=written.gallery_version,
        )


def _page_kind(conditions: str) -> str:
    """What a page token is for: the list, and the filter that it was made with."""
    return f"references-{hashlib.sha256(conditions.encode()).hexdigest()[:16]}"


def _registration(caller: Caller, request: gallery_pb2.RegisterRequest) -> Registration:
    return Registration(
        own_publisher(caller, request.parent),
        convert.checked_id("reference_id", request.reference_id) if request.reference_id else "",
        convert.checked_link("reference.link", request.reference.link),
        convert.checked_metadata("reference.metadata", request.reference.metadata),
        request.image,
        convert.checked_request_id("request_id", request.request_id),
    )
