"""The flow of a camera session, with scans that say how certain each frame is."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from indexing.errors import ApiKeyInvalid, ImageInvalid, Overloaded
from indexing.recognition import Photo, Recognition
from indexing.reference import Publisher
from server.scanning import Scan
from server.sessions import CameraSessions, Ended, Event, Failed, Seen, SessionPlan
from server.streaming import newest
from tests.unit.sightings import CALIBRATION, candidate

PLAN = SessionPlan(0, 60.0, 2.0, keep_late_frames=True)
LATE_DROPPED = SessionPlan(0, 60.0, 2.0, keep_late_frames=False)
PUBLISHER = Publisher("acme", "", False, 0.001, 0, datetime(2026, 1, 1, tzinfo=UTC))


def publisher() -> Publisher:
    return PUBLISHER


@dataclass
class Scanning:
    """Finds the reference that a frame names; ``gates`` hold frames up."""

    gates: dict[bytes, asyncio.Event] = field(default_factory=dict)
    scanned: list[bytes] = field(default_factory=list)
    quotas: list[float] = field(default_factory=list)

    async def scan(self, publisher: Publisher, image: bytes, min_gallery_version: int) -> Scan:
        self.scanned.append(image)
        self.quotas.append(publisher.max_scans_per_second)
        if image in self.gates:
            await self.gates[image].wait()
        if image == b"bad":
            raise ImageInvalid(problem="it is none.")
        if image == b"fault":
            raise ZeroDivisionError
        candidates = () if image == b"nothing" else (candidate(image.decode(), 20.0),)
        recognition = Recognition("v1", (), None, min_gallery_version, candidates, (), {}, {})
        photo = Photo("acme", np.zeros((2, 2, 3), np.uint8), 0.001)
        return Scan("scan", recognition, CALIBRATION, photo, (2, 2))


def sessions(scanning: Scanning, most: int = 2) -> CameraSessions:
    return CameraSessions(scanning, most)  # type: ignore[arg-type]


async def frames(*images: bytes) -> AsyncIterator[bytes]:
    for image in images:
        yield image


async def events(
    of: CameraSessions, images: AsyncIterator[bytes], plan: SessionPlan = PLAN
) -> list[Event]:
    return [event async for event in of.run(publisher, plan, images)]


async def test_each_reference_is_told_once_and_the_end_at_last() -> None:
    found = await events(sessions(Scanning()), frames(b"nothing", b"a", b"a", b"b", b"a"))
    seen, last = found[:-1], found[-1]
    assert [
        (each.number, each.sighting.match.candidate.reference)
        for each in seen
        if isinstance(each, Seen)
    ] == [(1, "a"), (3, "b")]
    assert last == Ended(5, 0, in_time=True)
    assert len(found) == 3


async def test_bad_frames_are_answered_and_the_session_goes_on() -> None:
    found = await events(sessions(Scanning()), frames(b"bad", b"fault", b"a"))
    assert [type(event) for event in found] == [Failed, Failed, Seen, Ended]
    bad, fault = (event.error for event in found[:2] if isinstance(event, Failed))
    assert isinstance(bad, ImageInvalid)
    assert "division" not in str(fault)


async def test_each_frame_is_scanned_under_the_quota_of_its_time() -> None:
    now = [PUBLISHER]

    async def bounded_meanwhile() -> AsyncIterator[bytes]:
        yield b"a"
        now[0] = replace(PUBLISHER, max_scans_per_second=2.0)
        yield b"b"

    scanning = Scanning()
    running = sessions(scanning).run(lambda: now[0], PLAN, bounded_meanwhile())
    assert len([event async for event in running]) == 3
    assert scanning.quotas == [0.0, 2.0]


async def test_only_the_newest_frame_waits_and_the_others_are_counted() -> None:
    scanning = Scanning({b"a": asyncio.Event()})
    running = sessions(scanning).run(
        publisher,
        LATE_DROPPED,
        frames(b"a", b"late", b"later", b"bad"),
    )
    first = asyncio.ensure_future(anext(running))
    await _settled()
    assert scanning.scanned == [b"a"]
    scanning.gates[b"a"].set()
    assert [(each.number, each.dropped) for each in (await first, await anext(running))] == [
        (0, 0),
        (3, 2),
    ]
    assert await anext(running) == Ended(4, 2, in_time=True)
    assert scanning.scanned == [b"a", b"bad"]


async def test_of_a_recording_every_frame_is_recognised_however_long_one_takes() -> None:
    scanning = Scanning({b"a": asyncio.Event()})
    running = asyncio.ensure_future(events(sessions(scanning), frames(b"a", b"b", b"nothing")))
    await _settled()
    assert scanning.scanned == [b"a"]
    scanning.gates[b"a"].set()
    assert (await running)[-1] == Ended(3, 0, in_time=True)
    assert scanning.scanned == [b"a", b"b", b"nothing"]


async def test_a_session_ends_when_its_time_is_over() -> None:
    async def forever() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    plan = SessionPlan(0, 0.1, 2.0, keep_late_frames=False)
    found = await asyncio.wait_for(events(sessions(Scanning()), forever(), plan), 5)
    assert [type(event) for event in found] == [Seen, Ended]
    assert found[-1] == Ended(1, 0, in_time=False)


async def test_no_more_sessions_than_there_is_room_for() -> None:
    of = sessions(Scanning(), most=1)
    running = of.run(publisher, PLAN, frames(b"a", b"b"))
    await anext(running)
    with pytest.raises(Overloaded):
        await events(of, frames(b"a"))
    await running.aclose()
    assert len(await events(of, frames(b"a"))) == 2


async def test_a_session_that_is_given_up_stops_its_scan() -> None:
    scanning = Scanning({b"slow": asyncio.Event()})
    of = sessions(scanning, most=1)
    task = asyncio.ensure_future(events(of, frames(b"slow")))
    await _settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await events(of, frames(b"a"))) == 2


async def test_what_ends_the_frames_ends_the_session() -> None:
    async def revoked() -> AsyncIterator[bytes]:
        yield b"a"
        raise ApiKeyInvalid

    for plan in (PLAN, LATE_DROPPED):
        with pytest.raises(ApiKeyInvalid):
            await events(sessions(Scanning()), revoked(), plan)


# The newest of a stream


async def _numbers(items: Iterable[int]) -> AsyncIterator[int]:
    for item in items:
        yield item
        await asyncio.sleep(0)


async def _settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_newest_drops_nothing_of_what_comes_slowly() -> None:
    async def slowly() -> AsyncIterator[int]:
        for item in range(5):
            await _settled()
            yield item

    assert [item async for item in newest(slowly())] == [(n, n) for n in range(5)]
    assert [item async for item in newest(_numbers([]))] == []


async def test_newest_takes_the_last_item_however_late() -> None:
    async with aclosing(newest(_numbers(range(100)))) as items:
        first = await anext(items)
        await _settled()
        await _settled()
        await _settled()
        await _settled()
        assert [first[0], (await anext(items))[0]] == [0, 99]
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_newest_stops_reading_when_it_is_given_up() -> None:
    read: list[int] = []

    async def endless() -> AsyncIterator[int]:
        while True:
            read.append(len(read))
            yield len(read)
            await asyncio.sleep(0)

    async with aclosing(newest(endless())) as items:
        await anext(items)
    count = len(read)
    await _settled()
    assert len(read) == count
