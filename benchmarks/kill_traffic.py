"""Publishers that write and scan while processes of their server are killed."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from imagelink import Client, ImageLinkError, Role

from benchmarks.artwork import draw_collection
from benchmarks.artwork.collection import Kind, capacity
from benchmarks.index_server import encoded
from benchmarks.kill_model import Gallery, Seen

PUBLISHERS = ("one", "two", "three")
KINDS: tuple[Kind, ...] = ("painting", "poster")
TIMEOUT_SECONDS = 10.0
WRITE_PAUSE_SECONDS = 0.1


@dataclass(slots=True)
class Counts:
    """Scans and writes, and those that failed by the error's class and reason."""

    scans: int = 0
    writes: int = 0
    failed_scans: Counter[str] = field(default_factory=Counter)
    failed_writes: Counter[str] = field(default_factory=Counter)

    def add(self, more: "Counts") -> None:
        """Counts what another counted, too."""
        self.scans += more.scans
        self.writes += more.writes
        self.failed_scans += more.failed_scans
        self.failed_writes += more.failed_writes

    def since(self, before: "Counts") -> "Counts":
        """What was counted after ``before``."""
        return Counts(
            self.scans - before.scans,
            self.writes - before.writes,
            self.failed_scans - before.failed_scans,
            self.failed_writes - before.failed_writes,
        )


class Answered(NamedTuple):
    """An answered scan: when it began and when the answer came, by the monotonic clock."""

    begun: float
    ended: float


class Publisher:
    """One publisher: a thread that writes to its gallery, and one that scans it."""

    def __init__(
        self, name: str, target: str, operator_key: str, key: str, photos: dict[str, bytes]
    ) -> None:
        self.name = name
        self.gallery = Gallery()
        self.counts = Counts()
        self.last_answered = Answered(0.0, 0.0)
        self._photos = photos
        self._keys = key, operator_key
        self._opened: list[Client] = []
        self.connect(target)
        self._links = 0

    def connect(self, target: str) -> None:
        """Calls another target from now on; calls that are under way end where they are."""
        self._client, self._operator = (
            Client(target, key=key, timeout=TIMEOUT_SECONDS) for key in self._keys
        )
        self._opened += [self._client, self._operator]

    def write(self, rng: random.Random) -> None:
        """Registers, changes or deletes a reference, and notes what came of it."""
        picture = rng.choice(list(self._photos))
        there = picture in self.gallery.contents
        link = None if there and rng.random() < 0.3 else self._new_link()
        try:
            version = self._write(picture, link, there)
        except ImageLinkError as error:
            self.counts.failed_writes[_named(error)] += 1
            version = self._version()
        # A call that the client repeated, as its answer was lost, may have made two versions.
        for made in range(self.gallery.version + 1, version + 1):
            self.gallery.wrote(made, picture, link)
        self.counts.writes += 1

    def _write(self, picture: str, link: str | None, there: bool) -> int:
        if link is None:
            return self._client.delete_reference(picture, publisher=self.name).gallery_version
        if there:
            written = self._client.update_reference(picture, link=link, publisher=self.name)
        else:
            photo = self._photos[picture]
            written = self._client.register(photo, link=link, reference_id=picture)
        return written.gallery_version

    def _new_link(self) -> str:
        self._links += 1
        return f"https://example.com/{self.name}/{self._links}"

    def _version(self) -> int:
        """The gallery's version, whatever time it takes to get it: nobody else writes."""
        while True:
            with suppress(ImageLinkError):
                return self._operator.get_publisher(self.name).gallery_version

    def scan(self, rng: random.Random) -> None:
        """Scans a picture, mostly with the token of the last write, and notes the answer."""
        picture = rng.choice(list(self._photos))
        token = self.gallery.version if rng.random() < 0.7 else 0
        begun = time.monotonic()
        self.counts.scans += 1
        try:
            result = self._client.scan(self._photos[picture], min_gallery_version=token)
        except ImageLinkError as error:
            self.counts.failed_scans[_named(error)] += 1
            return
        self.last_answered = Answered(begun, time.monotonic())
        links = {match.reference_id: match.link for match in result.matches}
        latest = self.gallery.version
        self.gallery.saw(Seen(picture, token, result.gallery_version, latest, links))

    def lost(self) -> list[str]:
        """The references that are not as they were acknowledged, a sentence each."""
        listed = {each.id: each.link for each in self._client.list_references(publisher=self.name)}
        return [f"{self.name}: {reference}" for reference in self.gallery.lost(listed)]

    def wrong(self) -> list[str]:
        """The answers that were wrong, a sentence each."""
        return [f"{self.name}: {problem}" for problem in self.gallery.wrong()]

    def close(self) -> None:
        """Closes the connections."""
        for client in self._opened:
            client.close()


def made_publishers(target: str, operator_key: str) -> list[Publisher]:
    """Publishers with empty galleries, on a server that runs."""
    drawn = [art for kind in KINDS for art in draw_collection(kind, capacity(kind), seed=1)]
    photos = {art.name: encoded(art.picture) for art in drawn}
    made = []
    with Client(target, key=operator_key, timeout=TIMEOUT_SECONDS) as operator:
        for name in PUBLISHERS:
            operator.create_publisher(name)
            _, key = operator.create_api_key(name, role=Role.PUBLISH)
            made.append(Publisher(name, target, operator_key, key, photos))
    return made


@contextmanager
def busy(publishers: Sequence[Publisher], seed: float) -> Iterator[None]:
    """Has every publisher write and scan meanwhile. Raises what one of them raised."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def repeat(work: Callable[[random.Random], None], pause: float, name: str) -> None:
        rng = random.Random(f"{seed} {name}")
        try:
            while not stop.wait(pause):
                work(rng)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=repeat, args=(work, pause, f"{publisher.name} {pause}"))
        for publisher in publishers
        for work, pause in ((publisher.write, WRITE_PAUSE_SECONDS), (publisher.scan, 0.0))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def counted(publishers: Sequence[Publisher]) -> Counts:
    """What all publishers counted."""
    total = Counts()
    for publisher in publishers:
        total.add(publisher.counts)
    return total


def _named(error: ImageLinkError) -> str:
    return f"{type(error).__name__} {error.reason or ''}".strip()
