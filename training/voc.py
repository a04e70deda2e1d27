"""Pascal VOC files: which things are where in a photo (Everingham et al., 2010).

Beside VOC's upright boxes, a quad's four corners are kept in an element of their own, ``quad``, which
other readers skip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from training.datasets import DatasetError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class VocBox:
    """A thing in a photo: its reference's name, and its outer corners in pixels, float32 [4, 2].

    ``name`` is ``UNKNOWN`` for a planar thing of which no reference is known.
    """

    name: str
    quad: Floats

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """The upright box around it: left, top, right, bottom."""
        left, top = np.floor(self.quad.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(self.quad.max(axis=0)).astype(int).tolist()
        return left, top, right, bottom

    @property
    def area(self) -> float:
        """The area of the upright box in square pixels."""
        left, top, right, bottom = self.bounds
        return float((right - left) * (bottom - top))


UNKNOWN = "planar"


@dataclass(frozen=True, slots=True)
class VocFile:
    """What a file tells of one photo, whose size is in pixels."""

    photo: str
    width: int
    height: int
    boxes: tuple[VocBox, ...]


def write_voc(content: VocFile, file: Path) -> None:
    """Writes a file; boxes are cut at the photo's edges, as VOC asks."""
    root = ElementTree.Element("annotation")
    _add(root, "filename", content.photo)
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", content.width), ("height", content.height), ("depth", 3)):
        _add(size, name, value)
    for box in content.boxes:
        thing = ElementTree.SubElement(root, "object")
        _add(thing, "name", box.name)
        limits = (content.width, content.height) * 2
        bounds = ElementTree.SubElement(thing, "bndbox")
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box.bounds, limits, strict=True)
        for name, value, limit in edges:
            _add(bounds, name, min(max(value + 1, 1), limit))
        corners = ElementTree.SubElement(thing, "quad")
        for x, y in box.quad.tolist():
            _add(corners, "point", f"{x:.1f},{y:.1f}")
    ElementTree.indent(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(file, encoding="utf-8")


def read_voc(file: Path) -> VocFile:
    """Reads a file; a box without a quad is one itself.

    Raises DatasetError where it is no VOC file, or a box is not in the photo.
    """
    try:
        root = ElementTree.parse(file).getroot()
        width, height = (int(_text(root, f"size/{side}")) for side in ("width", "height"))
        boxes = tuple(_box(thing) for thing in root.iter("object"))
        content = VocFile(_text(root, "filename"), width, height, boxes)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DatasetError([f"{file}: {error}"]) from error
    if problems := [f"{file}: {each.name}'s box is not in the photo" for each in _outside(content)]:
        raise DatasetError(problems)
    return content


def _add(parent: ElementTree.Element, name: str, value: object) -> None:
    ElementTree.SubElement(parent, name).text = str(value)


def _text(parent: ElementTree.Element, path: str) -> str:
    text = parent.findtext(path)
    if not text:
        raise ValueError(f"it has no {path}")
    return text


def _box(thing: ElementTree.Element) -> VocBox:
    points = [point.text or "" for point in thing.iterfind("quad/point")]
    if points:
        quad = np.array(
            [[float(part) for part in point.split(",")] for point in points], np.float32
        )
        if quad.shape != (4, 2):
            raise ValueError("a quad has four corners of two numbers each")
    else:
        edges = ("xmin", "ymin", "xmax", "ymax")
        left, top, right, bottom = (float(_text(thing, f"bndbox/{edge}")) for edge in edges)
        # VOC counts from 1.
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        quad = np.array(corners, np.float32) - 1
    return VocBox(_text(thing, "name"), quad)


def _outside(content: VocFile) -> Sequence[VocBox]:
    """The boxes of which nothing is in the photo, or which are none."""
    limits = np.array([content.width, content.height])
    return [
        box
        for box in content.boxes
        if (box.quad.max(axis=0) <= 0).any()
        or (box.quad.min(axis=0) >= limits).any()
        or box.area <= 0
    ]
