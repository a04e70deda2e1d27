"""The flow of a camera session: scan the newest frame, add up what frames show, tell what is new."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from indexing.errors import ImageLinkError, Overloaded
from indexing.reference import Publisher
from indexing.session import Session, Sighting
from server.rpc import logged_fault
from server.scanning import Scan, Scanning
from server.streaming import newest, numbered

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How a session goes: its longest duration, and after how long a reference is new again, both in
    seconds; and whether every frame is recognised.
    """

    min_gallery_version: int
    max_duration: float
    reappear_after: float
    keep_late_frames: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A reference that came into view in a frame, whose scan this is."""

    number: int
    dropped: int
    sighting: Sighting
    scan: Scan


@dataclass(frozen=True, slots=True)
class Failed:
    """A frame that could not be recognised."""

    number: int
    dropped: int
    error: ImageLinkError


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a session of ``frames``; ``in_time`` where not for its duration."""

    frames: int
    dropped: int
    in_time: bool


Event = Seen | Failed | Ended


class CameraSessions:
    """The camera sessions of this process, ``most`` at a time: each takes up a request that lasts."""

    def __init__(self, scanning: Scanning, most: int) -> None:
        self._scanning = scanning
        self._most = most
        self._running = 0

    async def run(
        self, publisher: Callable[[], Publisher], plan: SessionPlan, images: AsyncIterator[bytes]
    ) -> AsyncGenerator[Event, None]:
        """Tells what the frames of one session show, an ``Ended`` at last.

        ``publisher`` tells it as it is now: its weight and quota may change meanwhile. Raises
        Overloaded where there are too many sessions, and the errors of ``images``.
        """
        if self._running >= self._most:
            raise Overloaded
        self._running += 1
        try:
            camera = _Camera(self._scanning, publisher, plan)
            async with aclosing(camera.watch(images)) as events:
                async for event in events:
                    yield event
        finally:
            self._running -= 1


class _Camera:
    """One session."""

    def __init__(
        self, scanning: Scanning, publisher: Callable[[], Publisher], plan: SessionPlan
    ) -> None:
        self._scanning = scanning
        self._publisher = publisher
        self._plan = plan
        self._session = Session(publisher().false_accept_budget, plan.reappear_after)
        self._looked = 0

    async def watch(self, images: AsyncIterator[bytes]) -> AsyncGenerator[Event, None]:
        """Looks at frames until there are no more, or the time is over."""
        arriving = _Arriving(images, time.monotonic() + self._plan.max_duration)
        take = numbered if self._plan.keep_late_frames else newest
        async with aclosing(take(arriving.frames())) as frames:
            async for number, (image, seconds) in frames:
                dropped = number - self._looked
                for event in await self._look(number, dropped, image, seconds):
                    yield event
                self._looked += 1
        dropped = arriving.count - self._looked
        log.info("session", publisher=self._publisher().id, frames=arriving.count, dropped=dropped)
        yield Ended(arriving.count, dropped, not arriving.late)

    async def _look(
        self, number: int, dropped: int, image: bytes, seconds: float
    ) -> list[Seen | Failed]:
        publisher = self._publisher()
        try:
            scan = await self._scanning.scan(publisher, image, self._plan.min_gallery_version)
        except ImageLinkError as error:
            return [Failed(number, dropped, error)]
        except Exception as error:
            return [Failed(number, dropped, logged_fault("ScanStream", error))]
        sightings = self._session.see(scan.recognition.candidates, scan.calibration, seconds)
        for sighting in sightings:
            log.info("sighting", scan=scan.id, publisher=publisher.id, frames=sighting.frames)
        return [Seen(number, dropped, sighting, scan) for sighting in sightings]


class _Arriving:
    """Frames with the time when they came, until ``end``; ``late`` says that it was over."""

    def __init__(self, images: AsyncIterator[bytes], end: float) -> None:
        self._images = images
        self._end = end
        self.count = 0
        self.late = False

    async def frames(self) -> AsyncGenerator[tuple[bytes, float], None]:
        """The frames. Raises what the reading of them raises."""
        while not self.late:
            try:
                left = self._end - time.monotonic()
                image = await asyncio.wait_for(anext(self._images), left)
            except StopAsyncIteration:
                return
            except TimeoutError:
                self.late = True
                return
            self.count += 1
            yield image, time.monotonic()
