"""The galleries that a benchmark scans: one in this process, one behind a live server."""

import asyncio
import gc
import io
import multiprocessing
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from imagelink import Client, InvalidArgument, Match, Role
from PIL import Image
from rich.progress import track

from benchmarks.metrics import Answer, Found, Quad, Verified, accepted_first
from benchmarks.threads import use_one_thread
from indexing import decision
from indexing.allocator import keep_freed_memory
from indexing.bundle import Bundle
from indexing.decision import Calibration, Candidate
from indexing.errors import ImageLinkError, ImageTooPlain, ImageTooSmall
from indexing.features import FeatureExtractor, ReferenceFeatures
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE, Photo, Recogniser, Recognition
from indexing.reference import DEFAULT_FALSE_ACCEPT_BUDGET
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference
from indexing.shard import Shard
from server.registration import decode_reference

PUBLISHER = "benchmark"
IN_FLIGHT = 4
PART = 1000
TIMEOUT_SECONDS = 120.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gallery(Protocol):
    """References to recognise photos by; ``skipped`` counts those left out, by the reason."""

    skipped: Counter[str]

    def __len__(self) -> int: ...

    def __contains__(self, reference: object) -> bool: ...

    def scan(self, photo: Path) -> Answer:
        """Recognises the references in a photo."""
        ...

    def recognise(self, pixels: Pixels) -> Answer:
        """Recognises the references in a photo, RGB uint8 [h, w, 3], no side over 640 pixels."""
        ...

    def across(
        self, work: Callable[["Gallery", Item], Result], items: Sequence[Item], description: str
    ) -> Iterator[Result]:
        """What ``work`` makes of this gallery and each item, in their order, several at a time.

        It may run in other processes, so ``work`` is a function of a module. ``description`` is
        that of the progress bar.
        """
        ...

    def without(self, references: Collection[Path]) -> AbstractContextManager[None]:
        """Takes references out of the gallery for a while."""
        ...


class LocalGallery:
    """A gallery in this process, scanned one photo at a time with one thread per library.

    ``filling`` are references to confuse it with, beside those of ``references``.
    """

    def __init__(
        self,
        bundle: Bundle,
        references: Sequence[Path],
        filling: Sequence[IndexedReference] = (),
    ) -> None:
        use_one_thread()
        # As the server's processes do.
        keep_freed_memory()
        self.skipped: Counter[str] = Counter()
        self._features = FeatureExtractor(bundle)
        self._recogniser = Recogniser(bundle)
        self._calibration = bundle.calibration
        self._can_fork = not bundle.embedder.uses_gpu
        self._shard = Shard(bundle)
        self._runner = asyncio.Runner()
        threads = os.cpu_count() or 1
        indexed = side_by_side(self._index, references, "Building the gallery", threads)
        self._indexed = {Path(entry.id): entry for entry in indexed if entry}
        self._size = len(self._indexed) + len(filling)
        self._version = 1
        self._shard.replace(PUBLISHER, self._version, list(self._indexed.values()))
        # In parts, as all of a large filling would not fit into memory beside the index.
        for start in track(
            range(0, len(filling), PART), "Filling the gallery", disable=not filling
        ):
            self._apply(filling[start : start + PART], [])

    def __len__(self) -> int:
        return self._size

    def __contains__(self, reference: object) -> bool:
        return reference in self._indexed

    def features(self, reference: Path) -> ReferenceFeatures:
        """The features of a reference that is in the gallery."""
        return self._indexed[reference].images[0]

    def scan(self, photo: Path) -> Answer:
        """Recognises the references in a photo, by the library's own pipeline."""
        start = time.perf_counter()
        pixels, _ = decode(photo.read_bytes(), WORKING_SIDE)
        decoding = 1000 * (time.perf_counter() - start)
        answer = self.recognise(pixels)
        return replace(answer, milliseconds=decoding + answer.milliseconds)

    def recognise(self, pixels: Pixels) -> Answer:
        """Recognises the references in a photo, RGB uint8 [h, w, 3], no side over 640 pixels."""
        start, processor = time.perf_counter(), time.process_time()
        recognition = self.recognition(pixels)
        cpu = 1000 * (time.process_time() - processor)
        milliseconds = 1000 * (time.perf_counter() - start)
        return _answer(recognition, self._calibration, milliseconds, cpu)

    def recognition(self, pixels: Pixels) -> Recognition:
        """All that the pipeline says of a photo, RGB uint8 [h, w, 3], no side over 640 pixels."""
        asked = Photo(PUBLISHER, pixels, DEFAULT_FALSE_ACCEPT_BUDGET)
        # Not Runner.run, whose handling of Ctrl-C writes the whole answer into a text, in 10 ms.
        (recognition,) = self._runner.get_loop().run_until_complete(
            self._recogniser.recognise([asked], self._search)
        )
        return recognition

    def across(
        self, work: Callable[[Gallery, Item], Result], items: Sequence[Item], description: str
    ) -> Iterator[Result]:
        """What ``work`` makes of this gallery and each item, in forked processes.

        They share the gallery's memory; threads would wait for each other at its lock. A process
        that has used a GPU cannot be forked, then all is done in this one.
        """
        workers = min(len(os.sched_getaffinity(0)), len(items))
        if workers < 2 or not self._can_fork:
            yield from (work(self, item) for item in track(items, description, disable=not items))
            return
        executor = ProcessPoolExecutor(
            workers, multiprocessing.get_context("fork"), _enter_fork, (self,)
        )
        try:
            results = executor.map(partial(_in_fork, work), items, chunksize=4)
            yield from track(results, description, total=len(items))
        finally:
            executor.shutdown(cancel_futures=True)

    def enter_fork(self) -> None:
        """Makes the gallery usable in a forked process, where threads and event loop are gone."""
        self._runner = asyncio.Runner()

    @contextmanager
    def without(self, references: Collection[Path]) -> Iterator[None]:
        """Takes references out of the gallery for a while."""
        entries = [self._indexed[path] for path in references if path in self._indexed]
        self._apply([], [entry.id for entry in entries])
        try:
            yield
        finally:
            self._apply(entries, [])

    def _apply(self, changed: Sequence[IndexedReference], removed: Sequence[str]) -> None:
        self._version += 1
        self._shard.apply(PUBLISHER, self._version, changed, removed)

    async def _search(self, queries: Sequence[Query]) -> list[SearchResult]:
        return [self._shard.search(query) for query in queries]

    def _index(self, path: Path) -> IndexedReference | None:
        try:
            pixels, _ = decode_reference(path.read_bytes())
            return IndexedReference(str(path), "", {}, (self._features.reference(pixels),))
        except (ImageLinkError, OSError) as error:
            self.skipped[_reason(error)] += 1
            return None


class RemoteGallery:
    """A gallery behind a live server, under a publisher of its own."""

    def __init__(self, client: Client, publisher: str, references: Sequence[Path]) -> None:
        self.skipped: Counter[str] = Counter()
        self._client = client
        self._publisher = publisher
        self._names = {path: f"r{number}" for number, path in enumerate(references)}
        self._paths = {name: path for path, name in self._names.items()}
        registered = side_by_side(self._register, references, "Registering", IN_FLIGHT)
        versions = dict(zip(references, registered, strict=True))
        self._registered = {path for path, version in versions.items() if version}
        self._version = max(versions.values(), default=0)

    def __len__(self) -> int:
        return len(self._registered)

    def __contains__(self, reference: object) -> bool:
        return reference in self._registered

    def scan(self, photo: Path) -> Answer:
        """Recognises the references in a photo; the time includes the network's."""
        return self._scan(photo.read_bytes())

    def recognise(self, pixels: Pixels) -> Answer:
        """Recognises the references in a photo, RGB uint8 [h, w, 3], sent as a PNG file."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return self._scan(file.getvalue())

    def across(
        self, work: Callable[[Gallery, Item], Result], items: Sequence[Item], description: str
    ) -> Iterator[Result]:
        """What ``work`` makes of this gallery and each item, in threads."""
        return side_by_side(partial(work, self), items, description, IN_FLIGHT)

    def _scan(self, data: bytes) -> Answer:
        start = time.perf_counter()
        result = self._client.scan(data, min_gallery_version=self._version)
        milliseconds = 1000 * (time.perf_counter() - start)
        _, size = decode(data, WORKING_SIDE)
        found = (
            Found(self._paths[match.reference_id], match.probability, quad_shares(match, size))
            for match in result.matches
        )
        return Answer(tuple(found), None, milliseconds)

    @contextmanager
    def without(self, references: Collection[Path]) -> Iterator[None]:
        """Takes references out of the gallery for a while."""
        self._activate(references, active=False)
        try:
            yield
        finally:
            self._activate(references, active=True)

    def _activate(self, references: Collection[Path], *, active: bool) -> None:
        for path in self._registered.intersection(references):
            written = self._client.update_reference(
                self._names[path], publisher=self._publisher, active=active
            )
            self._version = written.gallery_version

    def _register(self, path: Path) -> int:
        name = self._names[path]
        try:
            written = self._client.register(
                path, link=f"https://example.com/{name}", reference_id=name
            )
        except InvalidArgument as error:
            self.skipped[_words(error.reason)] += 1
            return 0
        except OSError as error:
            self.skipped[_reason(error)] += 1
            return 0
        return written.gallery_version


@contextmanager
def remote_gallery(
    target: str, operator_key: str, references: Sequence[Path]
) -> Iterator[RemoteGallery]:
    """A gallery under a new publisher of the server at ``target``, deleted afterwards."""
    publisher = f"{PUBLISHER}-{secrets.token_hex(4)}"
    with Client(target, key=operator_key, timeout=TIMEOUT_SECONDS) as operator:
        operator.create_publisher(publisher, false_accept_budget=DEFAULT_FALSE_ACCEPT_BUDGET)
        try:
            _, key = operator.create_api_key(publisher, role=Role.PUBLISH)
            with Client(target, key=key, timeout=TIMEOUT_SECONDS) as client:
                yield RemoteGallery(client, publisher, references)
        finally:
            operator.delete_publisher(publisher)


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], description: str, threads: int
) -> Iterator[Result]:
    """The results of ``work`` on each item, in their order, from threads and with a progress bar."""
    if not items:
        return
    executor = ThreadPoolExecutor(threads)
    try:
        yield from track(executor.map(work, items), description, total=len(items))
    finally:
        executor.shutdown(cancel_futures=True)


def quad_shares(match: Match, size: tuple[int, int]) -> Quad:
    """Where a match stands in a photo of ``size`` pixels: float32 [4, 2], in shares of its sides."""
    at = match.location
    corners = (at.top_left, at.top_right, at.bottom_right, at.bottom_left)
    width, height = size
    return np.array([(each.x / width, each.y / height) for each in corners], np.float32)


# The gallery of a forked process, which is not sent there but shared.
_forked: list[LocalGallery] = []


def _enter_fork(gallery: LocalGallery) -> None:
    # The garbage collector would touch, and so copy, every page of the gallery.
    gc.freeze()
    gallery.enter_fork()
    _forked[:] = [gallery]


def _in_fork(work: Callable[[LocalGallery, Any], Result], item: object) -> Result:
    return work(_forked[0], item)


def _answer(
    recognition: Recognition, calibration: Calibration, milliseconds: float, cpu: float
) -> Answer:
    found = tuple(
        Found(
            Path(match.candidate.reference),
            match.probability,
            match.candidate.evidence.geometry.quad,
        )
        for match in recognition.matches
    )
    listed = (Path(name) for name in recognition.shortlist)
    shortlist = accepted_first((each.reference for each in found), listed)
    verified = _best_of_each(recognition.candidates, calibration)
    # On a busy machine the clock goes on while the scan waits for its turn.
    busy = cpu / milliseconds
    stages = {stage: 1000 * seconds * busy for stage, seconds in recognition.seconds.items()}
    stages["rest"] = max(cpu - sum(stages.values()), 0.0)
    return Answer(found, shortlist, milliseconds, verified, stages, cpu)


def _best_of_each(
    candidates: Sequence[Candidate], calibration: Calibration
) -> tuple[Verified, ...]:
    """The best candidate of each reference, by falling probability, the implausible last."""
    verified = [_verified(candidate, calibration) for candidate in candidates]
    verified.sort(key=lambda each: (each.plausible, each.log_odds), reverse=True)
    best: dict[Path, Verified] = {}
    for each in verified:
        best.setdefault(each.reference, each)
    return tuple(best.values())


def _verified(candidate: Candidate, calibration: Calibration) -> Verified:
    evidence = candidate.evidence
    channel = calibration[evidence.channel]
    match = decision.Match(candidate, channel.log_odds(evidence))
    return Verified(
        Path(candidate.reference),
        match.log_odds,
        match.probability,
        evidence.geometry.inliers,
        evidence.geometry.matches,
        evidence.geometry.coverage,
        evidence.geometry.plausible,
        match.log_odds >= channel.threshold(DEFAULT_FALSE_ACCEPT_BUDGET),
        evidence.geometry.quad,
    )


def _words(reason: str) -> str:
    return reason.lower().removeprefix("image_").replace("_", " ")


def _reason(error: ImageLinkError | OSError) -> str:
    if isinstance(error, ImageTooPlain):
        return "too plain"
    return "too small" if isinstance(error, ImageTooSmall) else "unreadable"
