"""The method of both clients for a camera session."""

# ruff: noqa: ASYNC109 (the timeout is sent to the server, which a scope around the call is not)

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import TypeVar

import grpc

from imagelink import _calls
from imagelink import _session_calls as calls
from imagelink._calls import Call, ImageSource
from imagelink._channel import Keyed
from imagelink.errors import InvalidArgument, from_rpc_error, lost_its_status
from imagelink.sessions import SessionEvent
from imagelink.v1.recognition_pb2 import ScanStreamRequest, ScanStreamResponse

T = TypeVar("T")


class SessionClient(Keyed):
    """The method that waits for answers."""

    _channel: grpc.Channel

    def scan_stream(
        self,
        frames: Iterable[ImageSource],
        *,
        min_gallery_version: int = 0,
        max_duration: float | None = None,
        reappear_after: float | None = None,
        keep_late_frames: bool = False,
        timeout: float | None = None,
    ) -> Generator[SessionEvent, None, None]:
        """Recognises what a camera sees: yields each reference once it is certain, and only then.

        It yields a ``Sighting`` for a reference that came into view, a ``FrameFailure`` for a frame
        that could not be recognised, and a ``SessionEnd`` at last. Close it to end the session.

        Args:
            frames: The camera's frames, or the paths of their files. A thread of gRPC takes them as
                fast as they can be sent: what gives them keeps the pace.
            min_gallery_version: Wait until the gallery has this version: that of an earlier
                write which the session should see.
            max_duration: Seconds after which the session ends; 60 by default.
            reappear_after: Seconds that a reference must be out of view before it is told again; 2
                by default.
            keep_late_frames: Recognise every frame, for recordings. Otherwise only the newest
                waits while one is recognised, and the others are dropped.
            timeout: Seconds after which the call fails; without end by default.
        """
        feed = calls.FrameFeed(
            calls.session_config(
                min_gallery_version, max_duration, reappear_after, keep_late_frames
            )
        )
        call = self._channel.stream_stream(
            calls.SCAN_STREAM.path,
            request_serializer=ScanStreamRequest.SerializeToString,
            response_deserializer=ScanStreamResponse.FromString,
        )(feed.requests(frames), timeout=timeout, metadata=self._metadata)
        try:
            for answer in call:
                event = calls.SCAN_STREAM.convert(answer)
                if event is not None and feed.problem is None:
                    yield event
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            feed.close()
            call.cancel()  # type: ignore[no-untyped-call]
        if feed.problem is not None:
            raise feed.problem


class AsyncSessionClient(Keyed):
    """The method that is awaited."""

    async def scan_stream(
        self,
        frames: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        min_gallery_version: int = 0,
        max_duration: float | None = None,
        reappear_after: float | None = None,
        keep_late_frames: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[SessionEvent, None]:
        """Recognises what a camera sees: yields each reference once it is certain, and only then."""
        feed = calls.FrameFeed(
            calls.session_config(
                min_gallery_version, max_duration, reappear_after, keep_late_frames
            )
        )
        call = self._open_channel().stream_stream(
            calls.SCAN_STREAM.path,
            request_serializer=ScanStreamRequest.SerializeToString,
            response_deserializer=ScanStreamResponse.FromString,
        )(feed.async_requests(frames), timeout=timeout, metadata=self._metadata)
        try:
            async for answer in call:
                event = calls.SCAN_STREAM.convert(answer)
                if event is not None and feed.problem is None:
                    yield event
        except grpc.RpcError as error:
            if lost_its_status(error):
                await self._tell_why(timeout)
            raise from_rpc_error(error) from error
        finally:
            call.cancel()
        if feed.problem is not None:
            raise feed.problem

    async def _tell_why(self, timeout: float | None) -> None:
        """Raises what ends any other call too: a key or a server that will not do."""
        try:
            await self._run(_calls.scan(b"", 0), timeout)
        except InvalidArgument:
            return

    def _open_channel(self) -> grpc.aio.Channel:
        raise NotImplementedError

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError
