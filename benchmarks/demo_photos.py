"""What the demo registers and scans: pictures drawn for it with views rendered of them, or files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from benchmarks.artwork import draw_publishers, draw_strangers
from indexing.image import Pixels
from indexing.views import ViewConditions, clutter, photo_without, render_view
from training.datasets import find_pictures

SEED = 2024
VIEWS_PER_PICTURE = 2
STRANGER_PHOTOS = 14
CLUTTER_PHOTOS = 6
OWN_PUBLISHER = "my-pictures"
LINK = "https://example.com/"
JPEG_QUALITY = 90
CONDITIONS = ViewConditions(
    long_side=960,
    area=(0.15, 0.9),
    tilt=50.0,
    turned=0.25,
    cut_off=0.1,
    occlusion=0.15,
    lighting=0.8,
    blur=0.6,
    noise=0.8,
    jpeg_quality=(40, 95),
)


@dataclass(frozen=True, slots=True)
class Poster:
    """A picture to register, as a file; without ``reference_id`` the server makes one."""

    publisher: str
    reference_id: str
    title: str
    link: str
    file: bytes


@dataclass(frozen=True, slots=True)
class Shot:
    """A photo to scan for a publisher, as a file.

    ``shows`` is the id of the reference in it, empty for none and None where nobody knows.
    """

    name: str
    publisher: str
    file: bytes
    shows: str | None


@dataclass(frozen=True, slots=True)
class Show:
    """All that a demo registers and scans."""

    posters: tuple[Poster, ...]
    shots: tuple[Shot, ...]

    @property
    def publishers(self) -> tuple[str, ...]:
        """Who registers or scans."""
        registering = dict.fromkeys(poster.publisher for poster in self.posters)
        return tuple(registering | dict.fromkeys(shot.publisher for shot in self.shots))


def drawn_show() -> Show:
    """Pictures of two publishers, and phone views: two of each, and some of nothing registered."""
    galleries = draw_publishers(SEED)
    strangers = [work.picture for work in draw_strangers(SEED)]
    posters, shots = [], []
    rng = np.random.default_rng(SEED)
    for publisher, works in galleries.items():
        for work in works:
            link = f"https://{publisher}.example/{work.name}"
            posters.append(Poster(publisher, work.name, work.title, link, _jpeg(work.picture)))
            for _ in range(VIEWS_PER_PICTURE):
                photo = _view(work.picture, strangers, rng)
                shots.append(Shot("", publisher, _jpeg(photo), work.name))
    for number, photo in enumerate(_unregistered(strangers, rng)):
        publisher = list(galleries)[number % len(galleries)]
        shots.append(Shot("", publisher, _jpeg(photo), ""))
    named = [Shot(f"photo-{n:02}", s.publisher, s.file, s.shows) for n, s in enumerate(shots, 1)]
    return Show(tuple(posters), tuple(named))


def own_show(pictures: Path, photos: Path) -> Show:
    """The files of two folders. Raises DatasetError where a folder is missing."""
    posters = (
        Poster(OWN_PUBLISHER, "", path.stem, LINK + quote(path.stem), path.read_bytes())
        for path in find_pictures([pictures])
    )
    shots = (
        Shot(f"{number:02}-{path.stem}", OWN_PUBLISHER, path.read_bytes(), None)
        for number, path in enumerate(find_pictures([photos]), start=1)
    )
    return Show(tuple(posters), tuple(shots))


def _unregistered(strangers: Sequence[Pixels], rng: np.random.Generator) -> Iterator[Pixels]:
    for number in range(STRANGER_PHOTOS):
        yield _view(strangers[number % len(strangers)], strangers, rng)
    for _ in range(CLUTTER_PHOTOS):
        yield photo_without(_surface(strangers, rng), CONDITIONS, rng)


def _view(picture: Pixels, strangers: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    return render_view(picture, _surface(strangers, rng), CONDITIONS, rng).photo


def _surface(strangers: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    about = rng.choice(len(strangers), size=rng.integers(1, 4), replace=False)
    size = CONDITIONS.long_side, CONDITIONS.long_side * 3 // 4
    return clutter([strangers[number] for number in about], size, rng)


def _jpeg(picture: Pixels) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", picture[:, :, ::-1], quality)
    return encoded.tobytes()
