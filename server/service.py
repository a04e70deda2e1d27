"""The gRPC servicers: each method checks its request, asks the domain and converts the answer."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from grpc_health.v1 import health_pb2
from imagelink.v1 import publisher_pb2, recognition_pb2

from indexing.errors import FieldInvalid
from indexing.gallery import GalleryStore
from indexing.reference import DEFAULT_FALSE_ACCEPT_BUDGET, DEFAULT_SCAN_WEIGHT, Role
from server import conversions as convert
from server.archive_service import ArchiveService
from server.archives import Archivist
from server.assessment import Assessor
from server.audit import audited
from server.auth import OPERATE, PUBLISH, SCAN, Authenticator, Caller, new_key
from server.erasing import Eraser
from server.erasure_service import ErasureService
from server.explanation import Explainer, Question
from server.gallery_service import GalleryService
from server.model_operator import ModelOperator
from server.model_service import ModelService
from server.ownership import own_reference, publisher_of
from server.placement import Placer
from server.receipts import receipt_name
from server.registration import Registrar
from server.rpc import GrpcContext, rpc
from server.scanning import Scanning
from server.session_service import SessionService
from server.sessions import CameraSessions
from server.shard_service import ShardService

KEY_ROLES = {publisher_pb2.ROLE_SCAN: Role.SCAN, publisher_pb2.ROLE_PUBLISH: Role.PUBLISH}
# The fields of a publisher that may be changed, each with the check of its value.
PUBLISHER_FIELDS: Mapping[str, Callable[[str, Any], Any]] = {
    "display_name": convert.checked_display_name,
    "suspended": lambda _, suspended: suspended,
    "false_accept_budget": convert.checked_budget,
    "scan_weight": convert.checked_scan_weight,
    "max_scans_per_second": convert.checked_scan_quota,
    "max_references": convert.checked_reference_quota,
    "max_kept_scans": convert.checked_kept_scans,
}

log = structlog.get_logger()


class Services(
    GalleryService, ArchiveService, ErasureService, SessionService, ShardService, ModelService
):
    """Every service of the API, as the methods of one object."""

    def __init__(
        self,
        authenticator: Authenticator,
        store: GalleryStore,
        registrar: Registrar,
        eraser: Eraser,
        archivist: Archivist,
        scanning: Scanning,
        sessions: CameraSessions,
        explainer: Explainer,
        assessor: Assessor,
        placer: Placer,
        operator: ModelOperator,
    ) -> None:
        GalleryService.__init__(self, store, registrar, eraser, assessor)
        ArchiveService.__init__(self, archivist)
        ErasureService.__init__(self, eraser)
        SessionService.__init__(self, sessions)
        ShardService.__init__(self, placer)
        ModelService.__init__(self, operator)
        self.authenticator = authenticator
        self._scanning = scanning
        self._explainer = explainer

    async def Check(
        self, request: health_pb2.HealthCheckRequest, grpc_context: GrpcContext
    ) -> health_pb2.HealthCheckResponse:
        """Answers health probes: a replica that can answer serves."""
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    @rpc(SCAN)
    async def Scan(
        self, request: recognition_pb2.ScanRequest, caller: Caller
    ) -> recognition_pb2.ScanResponse:
        """Recognises a photo."""
        publisher = publisher_of(caller)
        version = convert.checked_gallery_version(
            "min_gallery_version", request.min_gallery_version
        )
        scan = await self._scanning.scan(publisher, request.image, version)
        answer = convert.scan_message(publisher.id, scan.recognition, scan.size, scan.id)
        matches = len(answer.matches)
        log.info("scan", scan=scan.id, publisher=publisher.id, key=caller.key_id, matches=matches)
        return answer

    @rpc(PUBLISH)
    async def Explain(
        self, request: recognition_pb2.ExplainRequest, caller: Caller
    ) -> recognition_pb2.ExplainResponse:
        """Explains what a scan of a photo finds."""
        publisher, name = publisher_of(caller), request.reference
        question = Question(
            request.image,
            own_reference(caller, "reference", name)[1] if name else None,
            convert.checked_gallery_version("min_gallery_version", request.min_gallery_version),
            convert.checked_explanation_count("max_explanations", request.max_explanations),
        )
        explained = await self._explainer.explain(publisher, question)
        return convert.explain_message(publisher.id, explained)

    @rpc(OPERATE)
    @audited
    async def CreatePublisher(
        self, request: publisher_pb2.CreatePublisherRequest, caller: Caller
    ) -> publisher_pb2.Publisher:
        """Creates a publisher."""
        given = request.publisher
        created = await self._store.create_publisher(
            convert.checked_id("publisher_id", request.publisher_id),
            convert.checked_display_name("publisher.display_name", given.display_name),
            convert.checked_budget(
                "publisher.false_accept_budget",
                given.false_accept_budget or DEFAULT_FALSE_ACCEPT_BUDGET,
            ),
            convert.checked_scan_weight(
                "publisher.scan_weight", given.scan_weight or DEFAULT_SCAN_WEIGHT
            ),
            convert.checked_scan_quota(
                "publisher.max_scans_per_second", given.max_scans_per_second
            ),
            convert.checked_reference_quota("publisher.max_references", given.max_references),
            convert.checked_kept_scans("publisher.max_kept_scans", given.max_kept_scans),
        )
        return convert.publisher_message(created)

    @rpc(OPERATE)
    async def GetPublisher(
        self, request: publisher_pb2.GetPublisherRequest, caller: Caller
    ) -> publisher_pb2.Publisher:
        """Gets a publisher."""
        (publisher,) = convert.parsed_name("name", request.name, "publishers")
        return convert.publisher_message(await self._store.get_publisher(publisher))

    @rpc(OPERATE)
    async def ListPublishers(
        self, request: publisher_pb2.ListPublishersRequest, caller: Caller
    ) -> publisher_pb2.ListPublishersResponse:
        """Lists publishers."""
        size = convert.checked_page_size(request.page_size)
        after = convert.parsed_page_token("publishers", request.page_token)
        found = await self._store.list_publishers(after, size + 1)
        page, token = convert.paged("publishers", found, size, lambda each: each.id)
        return publisher_pb2.ListPublishersResponse(
            publishers=map(convert.publisher_message, page), next_page_token=token
        )

    @rpc(OPERATE)
    @audited
    async def UpdatePublisher(
        self, request: publisher_pb2.UpdatePublisherRequest, caller: Caller
    ) -> publisher_pb2.Publisher:
        """Changes a publisher."""
        given = request.publisher
        (publisher,) = convert.parsed_name("publisher.name", given.name, "publishers")
        mask = convert.checked_mask(request.update_mask.paths, frozenset(PUBLISHER_FIELDS))
        changes = {
            name: check(f"publisher.{name}", getattr(given, name))
            for name, check in PUBLISHER_FIELDS.items()
            if name in mask
        }
        updated = await self._store.update_publisher(publisher, **changes)
        self.authenticator.keys.forget(publisher)
        return convert.publisher_message(updated)

    @rpc(OPERATE)
    @audited
    async def DeletePublisher(
        self, request: publisher_pb2.DeletePublisherRequest, caller: Caller
    ) -> publisher_pb2.DeletePublisherResponse:
        """Deletes a publisher."""
        (publisher,) = convert.parsed_name("name", request.name, "publishers")
        erasure = await self._eraser.delete_publisher(publisher)
        self.authenticator.keys.forget(publisher)
        return publisher_pb2.DeletePublisherResponse(
            references_deleted=erasure.references, erasure_receipt=receipt_name(erasure)
        )

    @rpc(OPERATE)
    @audited
    async def CreateApiKey(
        self, request: publisher_pb2.CreateApiKeyRequest, caller: Caller
    ) -> publisher_pb2.CreateApiKeyResponse:
        """Creates an API key."""
        (publisher,) = convert.parsed_name("parent", request.parent, "publishers")
        role = KEY_ROLES.get(request.api_key.role)
        if role is None:
            raise FieldInvalid(field="api_key.role", problem="give ROLE_SCAN or ROLE_PUBLISH.")
        name = convert.checked_display_name("api_key.display_name", request.api_key.display_name)
        key = new_key()
        expiry = convert.checked_expiry("api_key.expire_time", request.api_key)
        created = await self._store.create_api_key(
            publisher, key.id, role, key.secret_sha256, name, expiry
        )
        return publisher_pb2.CreateApiKeyResponse(
            api_key=convert.api_key_message(created), key=key.text
        )

    @rpc(OPERATE)
    async def ListApiKeys(
        self, request: publisher_pb2.ListApiKeysRequest, caller: Caller
    ) -> publisher_pb2.ListApiKeysResponse:
        """Lists API keys."""
        (publisher,) = convert.parsed_name("parent", request.parent, "publishers")
        keys = await self._store.list_api_keys(publisher)
        return publisher_pb2.ListApiKeysResponse(
            api_keys=[convert.api_key_message(key) for key in keys]
        )

    @rpc(OPERATE)
    @audited
    async def RevokeApiKey(
        self, request: publisher_pb2.RevokeApiKeyRequest, caller: Caller
    ) -> publisher_pb2.ApiKey:
        """Revokes an API key."""
        publisher, key = convert.parsed_name("name", request.name, "publishers", "apiKeys")
        revoked = await self._store.revoke_api_key(publisher, key)
        self.authenticator.keys.forget(publisher)
        return convert.api_key_message(revoked)
