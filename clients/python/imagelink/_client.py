"""The client that blocks."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from imagelink import _calls as calls
from imagelink._calls import Call, ImageSource
from imagelink._channel import call_metadata, channel_credentials, channel_options
from imagelink._conversions import Page
from imagelink.errors import from_rpc_error
from imagelink.types import (
    ApiKey,
    Assessment,
    ExplanationResult,
    Publisher,
    Reference,
    Role,
    ScanResult,
    Written,
)

T = TypeVar("T")


class Client:
    """Calls ImageLink and waits for the answer. Threads may share one.

    Every call raises an ``ImageLinkError`` if it fails. Reads, ``scan`` and ``register`` are
    tried up to four times while the server is unavailable. ``timeout`` is in seconds, and where
    a call leaves it out, that of the client holds.

    A publisher is given as its id (``acme``) or its resource name (``publishers/acme``). A
    reference or an API key is given as its resource name, or as its id beside ``publisher``.
    """

    def __init__(
        self,
        target: str = "localhost:9000",
        *,
        key: str,
        tls: bool = False,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Prepares a connection to ``target``; the first call opens it.

        Args:
            target: The server's ``host:port``, or any other name that gRPC resolves.
            key: The API key.
            tls: Whether to use TLS with the system's certificate authorities.
            credentials: TLS with these credentials instead.
            timeout: Seconds that a call may take, retries included.
        """
        self._metadata = call_metadata(key)
        self._timeout = timeout
        secure = channel_credentials(tls, credentials)
        options = channel_options()
        self._channel = (
            grpc.secure_channel(target, secure, options)
            if secure
            else grpc.insecure_channel(target, options)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        self._channel.close()

    def scan(
        self, image: ImageSource, *, min_gallery_version: int = 0, timeout: float | None = None
    ) -> ScanResult:
        """Recognises which of the publisher's references a photo shows.

        Args:
            image: The photo, or the path of its file: JPEG, PNG or WebP of at most 8 MiB.
            min_gallery_version: Wait until the gallery has this version: that of an earlier
                write which the scan should see.
            timeout: Seconds that the call may take.
        """
        return self._run(calls.scan(calls.read_image(image), min_gallery_version), timeout)

    def explain(
        self,
        image: ImageSource,
        *,
        reference: str | None = None,
        publisher: str | None = None,
        min_gallery_version: int = 0,
        max_explanations: int = 0,
        timeout: float | None = None,
    ) -> ExplanationResult:
        """Explains what a scan of a photo finds and what it rejects, with pictures.

        It needs a publisher's key.

        Args:
            image: The photo, or the path of its file: JPEG, PNG or WebP of at most 8 MiB.
            reference: Explain only this one, whatever became of it.
            publisher: Whose ``reference`` is, where that is an id.
            min_gallery_version: Wait until the gallery has this version.
            max_explanations: How many references to explain; the server's limit by default.
            timeout: Seconds that the call may take.
        """
        data = calls.read_image(image)
        call = calls.explain(data, reference, publisher, min_gallery_version, max_explanations)
        return self._run(call, timeout)

    def register(
        self,
        image: ImageSource,
        *,
        link: str,
        reference_id: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str | None = None,
        assess: bool = False,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Registers a reference.

        Args:
            image: The clean image of the printed thing, or the path of its file.
            link: What a scan opens: an absolute URI.
            reference_id: The id to give to it; the server makes one by default.
            metadata: Data of your own, returned with each match.
            request_id: A UUID: a second call with the same one registers nothing again. Each
                call makes its own by default.
            assess: Whether to say too how well it will scan, which takes seconds.
            publisher: The key's own by default.
            timeout: Seconds that the call may take.
        """
        request_id = request_id or str(uuid.uuid4())
        data = calls.read_image(image)
        call = calls.register(data, link, reference_id, metadata, request_id, assess, publisher)
        return self._run(call, timeout)

    def assess_image(
        self, image: ImageSource, *, publisher: str | None = None, timeout: float | None = None
    ) -> Assessment:
        """Says how well an image would scan if it were registered, and registers nothing.

        Args:
            image: The clean image of the printed thing, or the path of its file.
            publisher: The key's own by default.
            timeout: Seconds that the call may take, which renders some photos and scans them.
        """
        return self._run(calls.assess_image(calls.read_image(image), publisher), timeout)

    def get_reference(
        self, reference: str, *, publisher: str | None = None, timeout: float | None = None
    ) -> Reference:
        """Gets a reference."""
        return self._run(calls.get_reference(reference, publisher), timeout)

    def list_references(
        self, *, publisher: str | None = None, page_size: int = 100, timeout: float | None = None
    ) -> Iterator[Reference]:
        """Iterates over all references by id, getting a page at a time."""
        return self._items(
            lambda token: calls.list_references(publisher, page_size, token), timeout
        )

    def update_reference(
        self,
        reference: str,
        *,
        link: str | None = None,
        metadata: Mapping[str, str] | None = None,
        active: bool | None = None,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Changes what is given of a reference; ``metadata`` is replaced whole."""
        call = calls.update_reference(reference, link, metadata, active, publisher)
        return self._run(call, timeout)

    def delete_reference(
        self, reference: str, *, publisher: str | None = None, timeout: float | None = None
    ) -> int:
        """Deletes a reference with its images; returns the gallery version that lacks it."""
        return self._run(calls.delete_reference(reference, publisher), timeout)

    def create_publisher(
        self,
        publisher_id: str,
        *,
        display_name: str = "",
        false_accept_budget: float | None = None,
        timeout: float | None = None,
    ) -> Publisher:
        """Creates a publisher; needs an operator's key, as all that follow do."""
        call = calls.create_publisher(publisher_id, display_name, false_accept_budget)
        return self._run(call, timeout)

    def get_publisher(self, publisher: str, *, timeout: float | None = None) -> Publisher:
        """Gets a publisher."""
        return self._run(calls.get_publisher(publisher), timeout)

    def list_publishers(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> Iterator[Publisher]:
        """Iterates over all publishers by id, getting a page at a time."""
        return self._items(lambda token: calls.list_publishers(page_size, token), timeout)

    def update_publisher(
        self,
        publisher: str,
        *,
        display_name: str | None = None,
        suspended: bool | None = None,
        false_accept_budget: float | None = None,
        timeout: float | None = None,
    ) -> Publisher:
        """Changes what is given of a publisher."""
        call = calls.update_publisher(publisher, display_name, suspended, false_accept_budget)
        return self._run(call, timeout)

    def delete_publisher(self, publisher: str, *, timeout: float | None = None) -> int:
        """Deletes a publisher with all that is its; returns how many references it had."""
        return self._run(calls.delete_publisher(publisher), timeout)

    def create_api_key(
        self,
        publisher: str,
        *,
        role: Role | str = Role.SCAN,
        display_name: str = "",
        timeout: float | None = None,
    ) -> tuple[ApiKey, str]:
        """Creates an API key; returns its description and the key, which is never shown again."""
        return self._run(calls.create_api_key(publisher, role, display_name), timeout)

    def list_api_keys(self, publisher: str, *, timeout: float | None = None) -> list[ApiKey]:
        """Lists all API keys of a publisher, revoked ones included."""
        return self._run(calls.list_api_keys(publisher), timeout)

    def revoke_api_key(
        self, api_key: str, *, publisher: str | None = None, timeout: float | None = None
    ) -> ApiKey:
        """Revokes an API key: from now on it opens nothing."""
        return self._run(calls.revoke_api_key(api_key, publisher), timeout)

    def _items(
        self, page_call: Callable[[str], Call[Page[T]]], timeout: float | None
    ) -> Iterator[T]:
        token = ""
        while True:
            page = self._run(page_call(token), timeout)
            yield from page.items
            token = page.next_page_token
            if not token:
                return

    def _run(self, call: Call[T], timeout: float | None) -> T:
        method = call.method
        stub: grpc.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        seconds = self._timeout if timeout is None else timeout
        try:
            answer = stub(call.request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return method.convert(answer)
