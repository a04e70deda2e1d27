"""Publishers, references and photos for a load test, on the server that is to be tested.

Pictures are drawn and photos of them rendered before the test, so that locust only sends files.
"""

import secrets
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from imagelink import Client, Registration, Role
from rich.progress import track

from benchmarks.artwork import draw_publishers, draw_strangers
from benchmarks.demo_photos import CONDITIONS
from benchmarks.index_server import encoded
from indexing.image import Pixels
from indexing.views import clutter, render_view
from loadtests.workload import Photo, Publisher, Workload, WorkloadError, write_workload

SEED = 400
STRANGER_PHOTOS = 40
AROUND = 2
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one publisher registers: pictures as files by their ids, and photos of each."""

    references: dict[str, bytes]
    photos: tuple[tuple[str, bytes], ...]


def prepare(target: str, operator_key: str, folder: Path, publishers: int, photos: int) -> Workload:
    """Registers publishers with 12 to 16 references each and writes the workload.

    ``photos`` are those of each reference. Raises the client's ImageLinkError.
    """
    with Client(target, key=operator_key, timeout=TIMEOUT_SECONDS) as operator:
        drawn = _drawn_side_by_side(publishers, photos)
        prefix = f"loadtest-{secrets.token_hex(3)}"
        registered = tuple(
            _register(operator, target, f"{prefix}-{number:02}", each)
            for number, each in enumerate(track(drawn, "Registering"), start=1)
        )
    strangers, new_pictures = _unregistered()
    workload = Workload(target, registered, strangers, new_pictures)
    write_workload(workload, folder)
    return workload


def delete_publishers(workload: Workload, operator_key: str) -> None:
    """Deletes what was prepared from the server. Raises the client's ImageLinkError."""
    with Client(workload.target, key=operator_key, timeout=TIMEOUT_SECONDS) as operator:
        for publisher in track(workload.publishers, "Deleting the publishers"):
            operator.delete_publisher(publisher.id)


def _drawn_side_by_side(publishers: int, photos: int) -> list[Drawn]:
    # A seed draws two publishers.
    seeds = [SEED + number for number in range((publishers + 1) // 2)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        pairs = pool.map(partial(_draw, photos=photos), seeds)
        tracked = track(pairs, "Drawing and rendering", total=len(seeds))
        return [drawn for pair in tracked for drawn in pair][:publishers]


def _draw(seed: int, photos: int) -> list[Drawn]:
    rng = np.random.default_rng(seed)
    around = [work.picture for work in draw_strangers(seed)[::2]]
    return [
        Drawn(
            {work.name: encoded(work.picture) for work in works},
            tuple(
                (work.name, _photo(work.picture, around, rng))
                for work in works
                for _ in range(photos)
            ),
        )
        for works in draw_publishers(seed).values()
    ]


def _unregistered() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Photos of strangers, and pictures to register: none of these is in any photo."""
    rng = np.random.default_rng(SEED)
    pictures = [work.picture for work in draw_strangers(SEED)]
    strangers, new_pictures = pictures[::2], pictures[1::2]
    photos = (
        _photo(strangers[number % len(strangers)], strangers, rng)
        for number in range(STRANGER_PHOTOS)
    )
    return tuple(photos), tuple(encoded(picture) for picture in new_pictures)


def _photo(picture: Pixels, others: Sequence[Pixels], rng: np.random.Generator) -> bytes:
    size = CONDITIONS.long_side, CONDITIONS.long_side * 3 // 4
    beside = [others[number] for number in rng.choice(len(others), AROUND, replace=False)]
    return encoded(render_view(picture, clutter(beside, size, rng), CONDITIONS, rng).photo)


def _register(operator: Client, target: str, name: str, drawn: Drawn) -> Publisher:
    operator.create_publisher(name)
    _, scan_key = operator.create_api_key(name, role=Role.SCAN)
    _, publish_key = operator.create_api_key(name, role=Role.PUBLISH)
    names = {key: f"publishers/{name}/references/{key}" for key in drawn.references}
    photos = tuple(Photo(file, names[key]) for key, file in drawn.photos)
    with Client(target, key=publish_key, timeout=TIMEOUT_SECONDS) as client:
        version = _register_all(client, drawn.references)
        # The first scan loads the gallery, which is no part of the load.
        client.scan(photos[0].file, min_gallery_version=version)
    return Publisher(name, scan_key, publish_key, frozenset(names.values()), photos)


def _register_all(client: Client, references: dict[str, bytes]) -> int:
    """Registers pictures and returns the version of the gallery that has them all."""
    registrations = (
        Registration(file, f"https://example.com/{key}", reference_id=key)
        for key, file in references.items()
    )
    version = 0
    for result in client.register_all(registrations):
        if result.written is None:
            raise WorkloadError(f"A reference could not be registered: {result.error}")
        version = max(version, result.written.gallery_version)
    return version
