"""The gRPC servicers: each method checks its request, asks the domain and converts the answer."""

import uuid

import structlog
from grpc_health.v1 import health_pb2
from imagelink.v1 import gallery_pb2, publisher_pb2, recognition_pb2

from indexing.errors import FieldInvalid, PublisherNotAllowed
from indexing.gallery import GalleryStore
from indexing.reference import DEFAULT_FALSE_ACCEPT_BUDGET, Publisher, Role
from server import conversions as convert
from server.assessment import Assessor
from server.auth import Authenticator, Caller, new_key
from server.explanation import Explainer, Question
from server.registration import Registrar, Registration
from server.rpc import GrpcContext, rpc
from server.scanning import Scanning

PUBLISH = frozenset({Role.PUBLISH})
SCAN = frozenset({Role.SCAN, Role.PUBLISH})
OPERATE = frozenset({Role.OPERATE})
KEY_ROLES = {publisher_pb2.ROLE_SCAN: Role.SCAN, publisher_pb2.ROLE_PUBLISH: Role.PUBLISH}
REFERENCE_FIELDS = frozenset({"link", "metadata", "active"})
PUBLISHER_FIELDS = frozenset({"display_name", "suspended", "false_accept_budget"})

log = structlog.get_logger()


class Services:
    """Every service of the API, as the methods of one object."""

    def __init__(
        self,
        authenticator: Authenticator,
        store: GalleryStore,
        registrar: Registrar,
        scanning: Scanning,
        explainer: Explainer,
        assessor: Assessor,
        model_version: str,
    ) -> None:
        self.authenticator = authenticator
        self._store = store
        self._registrar = registrar
        self._scanning = scanning
        self._explainer = explainer
        self._assessor = assessor
        self._model_version = model_version

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
        publisher = _publisher(caller)
        scan_id = uuid.uuid4().hex
        version = convert.checked_gallery_version(
            "min_gallery_version", request.min_gallery_version
        )
        scan = await self._scanning.scan(publisher, request.image, version)
        answer = convert.scan_message(
            publisher.id, scan.recognition, scan.size, self._model_version, scan_id
        )
        log.info("scan", scan=scan_id, publisher=publisher.id, matches=len(answer.matches))
        return answer

    @rpc(PUBLISH)
    async def Explain(
        self, request: recognition_pb2.ExplainRequest, caller: Caller
    ) -> recognition_pb2.ExplainResponse:
        """Explains what a scan of a photo finds."""
        publisher, name = _publisher(caller), request.reference
        question = Question(
            request.image,
            _own_reference(caller, "reference", name)[1] if name else None,
            convert.checked_gallery_version("min_gallery_version", request.min_gallery_version),
            convert.checked_explanation_count("max_explanations", request.max_explanations),
        )
        explained = await self._explainer.explain(publisher, question)
        return convert.explain_message(publisher.id, explained, self._model_version)

    @rpc(PUBLISH)
    async def Register(
        self, request: gallery_pb2.RegisterRequest, caller: Caller
    ) -> gallery_pb2.RegisterResponse:
        """Registers a reference, and assesses it if asked to."""
        asked = Registration(
            _own_publisher(caller, request.parent),
            convert.checked_id("reference_id", request.reference_id)
            if request.reference_id
            else "",
            convert.checked_link("reference.link", request.reference.link),
            convert.checked_metadata("reference.metadata", request.reference.metadata),
            request.image,
            convert.checked_request_id("request_id", request.request_id),
        )
        written = await self._registrar.register(asked)
        answer = gallery_pb2.RegisterResponse(
            reference=convert.reference_message(written.reference),
            gallery_version=written.gallery_version,
        )
        if request.assess:
            publisher = _publisher(caller)
            made = await self._assessor.assess_registered(publisher, request.image, written)
            if made:
                answer.assessment.CopyFrom(
                    convert.assessment_message(publisher.id, made, self._model_version)
                )
        return answer

    @rpc(PUBLISH)
    async def AssessImage(
        self, request: gallery_pb2.AssessImageRequest, caller: Caller
    ) -> gallery_pb2.AssessImageResponse:
        """Assesses an image."""
        _own_publisher(caller, request.parent)
        publisher = _publisher(caller)
        made = await self._assessor.assess(publisher, request.image)
        return gallery_pb2.AssessImageResponse(
            assessment=convert.assessment_message(publisher.id, made, self._model_version)
        )

    @rpc(PUBLISH)
    async def GetReference(
        self, request: gallery_pb2.GetReferenceRequest, caller: Caller
    ) -> gallery_pb2.Reference:
        """Gets a reference."""
        publisher, reference = _own_reference(caller, "name", request.name)
        return convert.reference_message(await self._store.get_reference(publisher, reference))

    @rpc(PUBLISH)
    async def ListReferences(
        self, request: gallery_pb2.ListReferencesRequest, caller: Caller
    ) -> gallery_pb2.ListReferencesResponse:
        """Lists references."""
        publisher = _own_publisher(caller, request.parent)
        size = convert.checked_page_size(request.page_size)
        after = convert.parsed_page_token("references", request.page_token)
        found = await self._store.list_references(publisher, after, size + 1)
        more = len(found) > size
        return gallery_pb2.ListReferencesResponse(
            references=[convert.reference_message(reference) for reference in found[:size]],
            next_page_token=convert.page_token("references", found[size - 1].id) if more else "",
            total_size=await self._store.count_references(publisher),
        )

    @rpc(PUBLISH)
    async def UpdateReference(
        self, request: gallery_pb2.UpdateReferenceRequest, caller: Caller
    ) -> gallery_pb2.UpdateReferenceResponse:
        """Changes a reference."""
        given = request.reference
        publisher, reference = _own_reference(caller, "reference.name", given.name)
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
    async def DeleteReference(
        self, request: gallery_pb2.DeleteReferenceRequest, caller: Caller
    ) -> gallery_pb2.DeleteReferenceResponse:
        """Deletes a reference."""
        publisher, reference = _own_reference(caller, "name", request.name)
        version = await self._registrar.delete(publisher, reference)
        return gallery_pb2.DeleteReferenceResponse(gallery_version=version)

    @rpc(OPERATE)
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
        more = len(found) > size
        return publisher_pb2.ListPublishersResponse(
            publishers=[convert.publisher_message(publisher) for publisher in found[:size]],
            next_page_token=convert.page_token("publishers", found[size - 1].id) if more else "",
        )

    @rpc(OPERATE)
    async def UpdatePublisher(
        self, request: publisher_pb2.UpdatePublisherRequest, caller: Caller
    ) -> publisher_pb2.Publisher:
        """Changes a publisher."""
        given = request.publisher
        (publisher,) = convert.parsed_name("publisher.name", given.name, "publishers")
        mask = convert.checked_mask(request.update_mask.paths, PUBLISHER_FIELDS)
        updated = await self._store.update_publisher(
            publisher,
            display_name=convert.checked_display_name("publisher.display_name", given.display_name)
            if "display_name" in mask
            else None,
            suspended=given.suspended if "suspended" in mask else None,
            false_accept_budget=convert.checked_budget(
                "publisher.false_accept_budget", given.false_accept_budget
            )
            if "false_accept_budget" in mask
            else None,
        )
        return convert.publisher_message(updated)

    @rpc(OPERATE)
    async def DeletePublisher(
        self, request: publisher_pb2.DeletePublisherRequest, caller: Caller
    ) -> publisher_pb2.DeletePublisherResponse:
        """Deletes a publisher."""
        (publisher,) = convert.parsed_name("name", request.name, "publishers")
        deleted = await self._registrar.delete_publisher(publisher)
        return publisher_pb2.DeletePublisherResponse(references_deleted=deleted)

    @rpc(OPERATE)
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
        created = await self._store.create_api_key(publisher, key.id, role, key.secret_sha256, name)
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
    async def RevokeApiKey(
        self, request: publisher_pb2.RevokeApiKeyRequest, caller: Caller
    ) -> publisher_pb2.ApiKey:
        """Revokes an API key."""
        publisher, key = convert.parsed_name("name", request.name, "publishers", "apiKeys")
        return convert.api_key_message(await self._store.revoke_api_key(publisher, key))


def _publisher(caller: Caller) -> Publisher:
    assert caller.publisher is not None, "only the operator has no publisher"
    return caller.publisher


def _own_publisher(caller: Caller, parent: str) -> str:
    own = _publisher(caller).id
    if parent:
        (named,) = convert.parsed_name("parent", parent, "publishers")
        if named != own:
            raise PublisherNotAllowed(publisher=named)
    return own


def _own_reference(caller: Caller, field: str, name: str) -> tuple[str, str]:
    publisher, reference = convert.parsed_name(field, name, "publishers", "references")
    if publisher != _publisher(caller).id:
        raise PublisherNotAllowed(publisher=publisher)
    return publisher, reference
