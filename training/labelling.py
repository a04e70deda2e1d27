"""Proposals for unlabelled photos: the likeliest references in order, and where they are.

A person then confirms instead of drawing. A model bundle's whole pipeline proposes; a rectangle that it
knows nothing of is proposed as well, as a planar thing without a name.
"""

import asyncio
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from indexing.bundle import Bundle
from indexing.errors import ImageTooPlain
from indexing.features import FeatureExtractor
from indexing.image import Pixels
from indexing.recognition import WORKING_SIDE, Photo, Recogniser
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference
from indexing.shard import Shard
from training.datasets import image_size, read_picture
from training.voc import UNKNOWN, Floats, VocBox, VocFile, write_voc

GALLERY = "labelling"
# Proposals are for a person: everything that is plausible, whatever it is worth.
ANY_BUDGET = 1.0
PROPOSED = 5
# A rectangle takes such a share of the photo: a larger one is the photo itself.
RECTANGLES = (0.03, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A reference that a photo may show, and where: float32 [4, 2], shares of the photo's sides.

    ``verified`` says whether geometry bears it out; otherwise it only resembles and has no ``quad``.
    """

    reference: Path
    probability: float
    quad: Floats | None

    @property
    def verified(self) -> bool:
        """Whether there is a place for it in the photo."""
        return self.quad is not None


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """What is proposed for one photo: references, the likeliest first, and an unnamed rectangle."""

    photo: Path
    proposals: tuple[Proposal, ...]
    rectangle: Floats | None


class Labeller:
    """Proposes references of one gallery. Raises DatasetError for pictures that cannot be read."""

    def __init__(self, bundle: Bundle, references: Sequence[Path]) -> None:
        self._recogniser = Recogniser(bundle)
        self._calibration = bundle.calibration
        self._shard = Shard(bundle)
        features = FeatureExtractor(bundle)
        indexed = (_indexed(features, path) for path in track(references, "References"))
        self._shard.replace(GALLERY, 1, [each for each in indexed if each])

    def label(self, photo: Path) -> Label:
        """Proposes up to five references: first those with a place, then those that resemble."""
        pixels = read_picture(photo, WORKING_SIDE)
        asked = Photo(GALLERY, pixels, ANY_BUDGET)
        (recognition,) = asyncio.run(self._recogniser.recognise([asked], self._search))
        placed = [
            Proposal(
                Path(match.candidate.reference),
                match.probability,
                match.candidate.evidence.geometry.quad,
            )
            for match in recognition.matches
        ]
        known = {each.reference for each in placed}
        alike = [
            Proposal(Path(name), 0.0, None)
            for name in recognition.shortlist
            if Path(name) not in known
        ]
        return Label(photo, tuple([*placed, *alike][:PROPOSED]), rectangle(pixels))

    async def _search(self, queries: Sequence[Query]) -> list[SearchResult]:
        return [self._shard.search(query) for query in queries]


def rectangle(pixels: Pixels) -> Floats | None:
    """The largest convex quadrilateral whose edges are seen, in shares of the sides, or None.

    ``pixels`` is RGB, uint8 [height, width, 3].
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (5, 5), 0)
    best: Floats | None = None
    area, most = (share * grey.size for share in RECTANGLES)
    for edges in _edges(grey):
        contours, _ = cv2.findContours(edges, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            hull = cv2.convexHull(contour)
            outline = cv2.approxPolyDP(hull, 0.03 * cv2.arcLength(hull, True), True)
            if len(outline) == 4 and area < cv2.contourArea(outline) < most:
                best, area = outline[:, 0].astype(np.float32), cv2.contourArea(outline)
    if best is None:
        return None
    return np.asarray(_ordered(best) / pixels.shape[1::-1], np.float32)


def write_label(label: Label, file: Path) -> None:
    """Writes a photo's VOC file with its first proposal, or the unnamed rectangle."""
    width, height = image_size(label.photo)
    sides = np.array([width, height], np.float32)
    named = [
        VocBox(each.reference.name, each.quad * sides)
        for each in label.proposals
        if each.quad is not None
    ][:1]
    if not named and label.rectangle is not None:
        named = [VocBox(UNKNOWN, label.rectangle * sides)]
    content = VocFile(label.photo.name, width, height, tuple(named))
    write_voc(content, file)


def write_pairs(labels: Sequence[Label], root: Path, file: Path) -> None:
    """Writes ``pairs.csv``: each photo with its first proposal, where geometry bears it out.

    Paths are relative to ``root``, which has photos and references beneath it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["query", "references"])
        for label in labels:
            first = [each.reference for each in label.proposals[:1] if each.verified]
            shown = " ".join(_relative(path, root) for path in first)
            writer.writerow([_relative(label.photo, root), shown])


def write_tasks(labels: Sequence[Label], file: Path) -> None:
    """Writes Label Studio's tasks with the proposals as pre-annotations.

    Photos and references are named by their files, which Label Studio is to serve as local storage.
    Source: labelstud.io/guide/predictions.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([_task(label) for label in labels], indent=2) + "\n")


def read_tasks(file: Path) -> dict[Path, Path | None]:
    """The reference that a person chose for each photo, from what Label Studio exports as JSON."""
    chosen: dict[Path, Path | None] = {}
    for task in json.loads(file.read_text()):
        results = [one for each in task.get("annotations", []) for one in each["result"]]
        names = [name for one in results for name in one["value"].get("choices", [])]
        references = task["data"]["references"]
        known = [Path(each) for each in references if Path(each).name in names]
        chosen[Path(task["data"]["photo"])] = known[0] if known else None
    return chosen


# What Label Studio is to show: the project's labelling configuration.
LABEL_STUDIO = """<View>
  <Image name="photo" value="$image"/>
  <PolygonLabels name="where" toName="photo"><Label value="reference"/></PolygonLabels>
  <Choices name="which" toName="photo" value="$choices" choice="single"/>
</View>
"""


def _task(label: Label) -> dict[str, Any]:
    references = [str(each.reference) for each in label.proposals]
    results: list[dict[str, Any]] = []
    if label.proposals:
        first = label.proposals[0]
        choice = {"choices": [first.reference.name]}
        results.append(
            {"from_name": "which", "to_name": "photo", "type": "choices", "value": choice}
        )
        quad = first.quad if first.quad is not None else label.rectangle
        if quad is not None:
            points = {"points": (100 * quad).tolist(), "polygonlabels": ["reference"]}
            results.append(
                {"from_name": "where", "to_name": "photo", "type": "polygonlabels", "value": points}
            )
    data = {
        "photo": str(label.photo),
        "image": f"/data/local-files/?d={label.photo}",
        "references": references,
        "choices": [{"value": Path(each).name} for each in references],
    }
    score = label.proposals[0].probability if label.proposals else 0.0
    return {"data": data, "predictions": [{"score": score, "result": results}]}


def _indexed(features: FeatureExtractor, path: Path) -> IndexedReference | None:
    try:
        found = features.reference(read_picture(path))
    except ImageTooPlain:
        return None
    return IndexedReference(str(path), "", {}, (found,))


def _edges(grey: cv2.typing.MatLike) -> Iterator[cv2.typing.MatLike]:
    """Edges by their strength, and the borders of what is lighter or darker than the rest."""
    kernel = np.ones((3, 3), np.uint8)
    for low, high in ((30, 90), (75, 200)):
        yield cv2.dilate(cv2.Canny(grey, low, high), kernel)
    yield cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]


def _ordered(quad: Floats) -> Floats:
    """Corners clockwise from the one nearest to the photo's top left."""
    middle = quad.mean(axis=0)
    turns = np.arctan2(quad[:, 1] - middle[1], quad[:, 0] - middle[0])
    around = quad[np.argsort(turns)]
    return np.roll(around, -int(around.sum(axis=1).argmin()), axis=0)


def _relative(path: Path, root: Path) -> str:
    return str(path.resolve().relative_to(root))
