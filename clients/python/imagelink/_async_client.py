"""The client for asyncio."""

# ruff: noqa: ASYNC109 (the timeout is sent to the server, which a scope around the call is not)

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from imagelink import _calls as calls
from imagelink._archives import download, upload
from imagelink._batch import WINDOW, Batch, Registration, RegistrationResult
from imagelink._calls import Call, ImageSource
from imagelink._channel import call_metadata, channel_credentials, channel_options
from imagelink._conversions import Page
from imagelink._erasure_client import AsyncErasureClient
from imagelink._model_client import AsyncModelClient
from imagelink._session_client import AsyncSessionClient
from imagelink._shard_client import AsyncShardClient
from imagelink.archives import ImportResult
from imagelink.erasures import Deletion, PublisherDeletion
from imagelink.errors import from_rpc_error, lost_its_status
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


class AsyncClient(AsyncErasureClient, AsyncModelClient, AsyncSessionClient, AsyncShardClient):
    """Calls ImageLink without blocking: ``Client`` with ``await``, in one event loop.

    Its methods are those of ``Client``, where their arguments are explained.
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
        """Prepares a connection to ``target``; the first call opens it, in its event loop.

        Args:
            target: The server's ``host:port``, or any other name that gRPC resolves.
            key: The API key.
            tls: Whether to use TLS with the system's certificate authorities.
            credentials: TLS with these credentials instead, as ``tls_credentials`` makes them.
            timeout: Seconds that a call may take, retries included.
        """
        self._target = target
        self._key = call_metadata(key)
        self._credentials = channel_credentials(tls, credentials)
        self._timeout = timeout
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        if self._channel is not None:
            await self._channel.close(grace=None)

    async def scan(
        self, image: ImageSource, *, min_gallery_version: int = 0, timeout: float | None = None
    ) -> ScanResult:
        """Recognises which of the publisher's references a photo shows."""
        data = await asyncio.to_thread(calls.read_image, image)
        return await self._run(calls.scan(data, min_gallery_version), timeout)

    async def explain(
        self,
        image: ImageSource,
        *,
        reference: str | None = None,
        publisher: str | None = None,
        min_gallery_version: int = 0,
        max_explanations: int = 0,
        timeout: float | None = None,
    ) -> ExplanationResult:
        """Explains what a scan of a photo finds and what it rejects, with pictures."""
        data = await asyncio.to_thread(calls.read_image, image)
        call = calls.explain(data, reference, publisher, min_gallery_version, max_explanations)
        return await self._run(call, timeout)

    async def register(
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
        """Registers a reference."""
        request_id = request_id or str(uuid.uuid4())
        data = await asyncio.to_thread(calls.read_image, image)
        call = calls.register(data, link, reference_id, metadata, request_id, assess, publisher)
        return await self._run(call, timeout)

    async def register_all(
        self,
        registrations: Iterable[Registration],
        *,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[RegistrationResult, None]:
        """Registers many references over one stream; yields the result of each as it is there."""
        batch, room = Batch(publisher), asyncio.Semaphore(WINDOW)

        async def requests() -> AsyncIterator[gallery_pb2.BatchRegisterRequest]:
            for registration in registrations:
                await room.acquire()
                request = await asyncio.to_thread(batch.request, registration)
                if request is None:
                    room.release()
                else:
                    yield request

        call = self._open_channel().stream_stream(
            calls.BATCH_REGISTER.path,
            request_serializer=gallery_pb2.BatchRegisterRequest.SerializeToString,
            response_deserializer=gallery_pb2.BatchRegisterResponse.FromString,
        )(requests(), timeout=timeout, metadata=self._metadata)
        try:
            async for answer in call:
                room.release()
                yield batch.result(answer)
                for result in batch.unsent():
                    yield result
        except grpc.RpcError as error:
            if lost_its_status(error):
                # A key or a server that will not do is told by any other call, too.
                await self._run(calls.list_references(publisher, "", 1, ""), timeout)
            raise from_rpc_error(error) from error
        finally:
            call.cancel()
        for result in batch.unsent():
            yield result

    async def assess_image(
        self, image: ImageSource, *, publisher: str | None = None, timeout: float | None = None
    ) -> Assessment:
        """Says how well an image would scan if it were registered, and registers nothing."""
        data = await asyncio.to_thread(calls.read_image, image)
        return await self._run(calls.assess_image(data, publisher), timeout)

    async def get_reference(
        self, reference: str, *, publisher: str | None = None, timeout: float | None = None
    ) -> Reference:
        """Gets a reference."""
        return await self._run(calls.get_reference(reference, publisher), timeout)

    def list_references(
        self,
        *,
        filter: str = "",  # noqa: A002 (the API's name for it)
        publisher: str | None = None,
        page_size: int = 100,
        timeout: float | None = None,
    ) -> AsyncIterator[Reference]:
        """Iterates over all references by id, getting a page at a time."""
        return self._items(
            lambda token: calls.list_references(publisher, filter, page_size, token), timeout
        )

    async def update_reference(
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
        return await self._run(call, timeout)

    async def delete_reference(
        self, reference: str, *, publisher: str | None = None, timeout: float | None = None
    ) -> Deletion:
        """Deletes a reference with its images; the answer names the receipt of that."""
        return await self._run(calls.delete_reference(reference, publisher), timeout)

    async def add_image(
        self,
        reference: str,
        image: ImageSource,
        *,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> AddedImage:
        """Adds an image to a reference: another side or variant, or a real photo of it."""
        data = await asyncio.to_thread(calls.read_image, image)
        return await self._run(calls.add_image(reference, data, publisher), timeout)

    async def remove_image(
        self,
        reference: str,
        image_id: str,
        *,
        publisher: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Removes an image from a reference, which must have another."""
        return await self._run(calls.remove_image(reference, image_id, publisher), timeout)

    async def create_publisher(
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
        return await self._run(call, timeout)

    async def get_publisher(self, publisher: str, *, timeout: float | None = None) -> Publisher:
        """Gets a publisher."""
        return await self._run(calls.get_publisher(publisher), timeout)

    def list_publishers(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncIterator[Publisher]:
        """Iterates over all publishers by id, getting a page at a time."""
        return self._items(lambda token: calls.list_publishers(page_size, token), timeout)

    async def update_publisher(
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
        return await self._run(call, timeout)

    async def delete_publisher(
        self, publisher: str, *, timeout: float | None = None
    ) -> PublisherDeletion:
        """Deletes a publisher with all that is its; the answer names the receipt of that."""
        return await self._run(calls.delete_publisher(publisher), timeout)

    async def export_gallery(
        self, publisher: str, path: str | PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Writes the archive of a publisher's gallery into a file: all of it, or no file."""
        options = {"timeout": timeout, "metadata": self._metadata}
        with self._blocking_channel() as channel:
            await asyncio.to_thread(download, channel, publisher, path, **options)

    async def import_gallery(
        self, publisher: str, path: str | PathLike[str], *, timeout: float | None = None
    ) -> ImportResult:
        """Imports an archive; what is registered already stays, so that it may be sent again."""
        options = {"timeout": timeout, "metadata": self._metadata}
        with self._blocking_channel() as channel:
            return await asyncio.to_thread(upload, channel, publisher, path, **options)

    async def create_api_key(
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
        return await self._run(call, timeout)

    async def list_api_keys(self, publisher: str, *, timeout: float | None = None) -> list[ApiKey]:
        """Lists all API keys of a publisher, revoked and expired ones included."""
        return await self._run(calls.list_api_keys(publisher), timeout)

    async def revoke_api_key(
        self, api_key: str, *, publisher: str | None = None, timeout: float | None = None
    ) -> ApiKey:
        """Revokes an API key: from now on it opens nothing."""
        return await self._run(calls.revoke_api_key(api_key, publisher), timeout)

    async def _items(
        self, page_call: Callable[[str], Call[Page[T]]], timeout: float | None
    ) -> AsyncIterator[T]:
        token = ""
        while True:
            page = await self._run(page_call(token), timeout)
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        method = call.method
        stub: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._open_channel().unary_unary(
            method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        seconds = self._timeout if timeout is None else timeout
        try:
            answer = await stub(call.request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return method.convert(answer)

    def _blocking_channel(self) -> grpc.Channel:
        """A channel for a thread with files to read and write."""
        options = channel_options(self._target)
        return (
            grpc.secure_channel(self._target, self._credentials, options)
            if self._credentials
            else grpc.insecure_channel(self._target, options)
        )

    def _open_channel(self) -> grpc.aio.Channel:
        """The channel, made at the first call: it belongs to the event loop that runs then."""
        if self._channel is None:
            options = channel_options(self._target)
            self._channel = (
                grpc.aio.secure_channel(self._target, self._credentials, options)
                if self._credentials
                else grpc.aio.insecure_channel(self._target, options)
            )
        return self._channel
