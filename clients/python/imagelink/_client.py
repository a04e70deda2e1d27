"""The client that blocks."""

import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from imagelink import _calls as calls
from imagelink._archives import download, upload
from imagelink._batch import Batch, Feed, Registration, RegistrationResult
from imagelink._calls import Call, ImageSource
from imagelink._channel import call_metadata, channel_credentials, channel_options
from imagelink._conversions import Page
from imagelink._erasure_client import ErasureClient
from imagelink._model_client import ModelClient
from imagelink._session_client import SessionClient
from imagelink._shard_client import ShardClient
from imagelink.archives import ImportResult
from imagelink.erasures import Deletion, PublisherDeletion
from imagelink.errors import from_rpc_error
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
from imagelink.v1 import gallery_pb2

T = TypeVar("T")


class Client(ErasureClient, ModelClient, SessionClient, ShardClient):
    """Calls ImageLink and waits for the answer. Threads may share one.

    Every call raises an ``ImageLinkError`` if it fails. Reads, ``scan``, ``register``
    and other writes that may run twice are tried up to four times while the server is unavailable.
    ``timeout`` is in seconds, and where a call leaves it out, that of the client holds.

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
            credentials: TLS with these credentials instead, as ``tls_credentials`` makes them.
            timeout: Seconds that a call may take, retries included.
        """
        self._key = call_metadata(key)
        self._timeout = timeout
        secure = channel_credentials(tls, credentials)
        options = channel_options(target)
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
            request_id: A UUID: a second call with the same one, within a week, registers nothing
                again. Each call makes its own by default.
            assess: Whether to say too how well it will scan, which takes seconds.
            publisher: The key's own by default.
            timeout: Seconds that the call may take.
        """
        request_id = request_id or str(uuid.uuid4())
        data = calls.read_image(image)
        call = calls.register(data, link, reference_id, metadata, request_id, assess, publisher)
        return self._run(call, timeout)

    def register_all(
        self,
        registrations: Iterable[Registration],
        *,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> Generator[RegistrationResult, None, None]:
        """Registers many references over one stream; yields the result of each as it is there.

        The results come in any order, and one that failed has its error: only what breaks the
        stream is raised. Sent again with their ``request_id``, registrations that were done are
        not done again.

        Args:
            registrations: What to register. A thread of gRPC takes them as the server has room.
            publisher: The key's own by default.
            timeout: Seconds that all of them may take; without end by default.
        """
        batch = Batch(publisher)
        feed = Feed(batch, registrations)
        call = self._channel.stream_stream(
            calls.BATCH_REGISTER.path,
            request_serializer=gallery_pb2.BatchRegisterRequest.SerializeToString,
            response_deserializer=gallery_pb2.BatchRegisterResponse.FromString,
        )(iter(feed), timeout=timeout, metadata=self._metadata)
        try:
            for answer in call:
                feed.answered()
                yield batch.result(answer)
                yield from batch.unsent()
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            feed.close()
            call.cancel()  # type: ignore[no-untyped-call]
        yield from batch.unsent()

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
        self,
        *,
        filter: str = "",  # noqa: A002 (the API's name for it)
        publisher: str | None = None,
        page_size: int = 100,
        timeout: float | None = None,
    ) -> Iterator[Reference]:
        """Iterates over the references by id, getting a page at a time.

        Args:
            filter: Only those that pass all conditions, such as ``active = true AND
                metadata.room = "3"``; others are ``id = "spring-*"`` and ``metadata:room``.
            publisher: The key's own by default.
            page_size: References per page.
            timeout: Seconds that getting a page may take.
        """
        return self._items(
            lambda token: calls.list_references(publisher, filter, page_size, token), timeout
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
    ) -> Deletion:
        """Deletes a reference with its images; the answer names the receipt of that."""
        return self._run(calls.delete_reference(reference, publisher), timeout)

    def add_image(
        self,
        reference: str,
        image: ImageSource,
        *,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> AddedImage:
        """Adds an image to a reference: another side or variant, or a real photo of it."""
        data = calls.read_image(image)
        return self._run(calls.add_image(reference, data, publisher), timeout)

    def remove_image(
        self,
        reference: str,
        image_id: str,
        *,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Removes an image from a reference, which must have another."""
        return self._run(calls.remove_image(reference, image_id, publisher), timeout)

    def create_publisher(
        self,
        publisher_id: str,
        *,
        display_name: str = "",
        false_accept_budget: float | None = None,
        scan_weight: int | None = None,
        max_scans_per_second: float | None = None,
        max_references: int | None = None,
        max_kept_scans: int | None = None,
        timeout: float | None = None,
    ) -> Publisher:
        """Creates a publisher; needs an operator's key, as all that follow do."""
        call = calls.create_publisher(
            publisher_id,
            display_name,
            false_accept_budget,
            scan_weight,
            max_scans_per_second,
            max_references,
            max_kept_scans,
        )
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
        scan_weight: int | None = None,
        max_scans_per_second: float | None = None,
        max_references: int | None = None,
        max_kept_scans: int | None = None,
        timeout: float | None = None,
    ) -> Publisher:
        """Changes what is given of a publisher."""
        call = calls.update_publisher(
            publisher,
            display_name,
            suspended,
            false_accept_budget,
            scan_weight,
            max_scans_per_second,
            max_references,
            max_kept_scans,
        )
        return self._run(call, timeout)

    def delete_publisher(
        self, publisher: str, *, timeout: float | None = None
    ) -> PublisherDeletion:
        """Deletes a publisher with all that is its; the answer names the receipt of that."""
        return self._run(calls.delete_publisher(publisher), timeout)

    def export_gallery(
        self, publisher: str, path: str | PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Writes the archive of a publisher's gallery into a file: all of it, or no file.

        Args:
            publisher: Whose gallery.
            path: The file to write, a tar archive.
            timeout: Seconds that the whole may take; without end by default.
        """
        options = {"timeout": timeout, "metadata": self._metadata}
        download(self._channel, publisher, path, **options)

    def import_gallery(
        self, publisher: str, path: str | PathLike[str], *, timeout: float | None = None
    ) -> ImportResult:
        """Imports an archive; what is registered already stays, so that it may be sent again.

        Args:
            publisher: Whose gallery: the one that the archive is of.
            path: The file that ``export_gallery`` wrote.
            timeout: Seconds that the whole may take; without end by default.
        """
        options = {"timeout": timeout, "metadata": self._metadata}
        return upload(self._channel, publisher, path, **options)

    def create_api_key(
        self,
        publisher: str,
        *,
        role: Role | str = Role.SCAN,
        display_name: str = "",
        expire_time: datetime | None = None,
        timeout: float | None = None,
    ) -> tuple[ApiKey, str]:
        """Creates an API key; returns its description and the key, which is never shown again.

        From ``expire_time`` on, which needs a time zone, it opens nothing; without, it never ends.
        """
        call = calls.create_api_key(publisher, role, display_name, expire_time)
        return self._run(call, timeout)

    def list_api_keys(self, publisher: str, *, timeout: float | None = None) -> list[ApiKey]:
        """Lists all API keys of a publisher, revoked and expired ones included."""
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
