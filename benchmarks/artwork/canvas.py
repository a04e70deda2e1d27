"""A sheet to draw on, at twice the final size so that every edge comes out smooth.

Lengths are in widths of the sheet: x runs from 0 to 1 and y from 0 to `bottom`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from benchmarks.artwork.palette import Colour

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]
Point = tuple[float, float]
Fill = Colour | Image.Image
"""One ink, or a picture of the sheet's size that shows through the shape."""

_OVERSAMPLING = 2
_TYPE_SIZE = 160


class Canvas:
    """A sheet with shapes and lettering laid over one another."""

    def __init__(self, width: int, height: int, ground: Colour) -> None:
        self.size = (width, height)
        self.bottom = height / width
        self.unit = width * _OVERSAMPLING
        self.image = Image.new("RGB", (self.unit, height * _OVERSAMPLING), ground)

    def finished(self) -> Image.Image:
        """The sheet at its final size."""
        return self.image.resize(self.size, Image.Resampling.BOX)

    # Shapes

    def polygon(self, points: Iterable[Point], fill: Fill) -> None:
        """Fills the outline through the points."""
        outline = self._pixels(points)
        self._draw(lambda pen, ink: pen.polygon(outline, fill=ink), fill)

    def ellipse(self, x: float, y: float, across: float, down: float, fill: Fill) -> None:
        """Fills an ellipse given by its centre and its two radii."""
        box = self._pixels([(x - across, y - down), (x + across, y + down)])
        self._draw(lambda pen, ink: pen.ellipse(box, fill=ink), fill)

    def disc(self, x: float, y: float, radius: float, fill: Fill) -> None:
        """Fills a circle."""
        self.ellipse(x, y, radius, radius, fill)

    def ring(self, x: float, y: float, radius: float, thickness: float, fill: Fill) -> None:
        """Draws a circle's line, inwards from the radius."""
        self.arc(x, y, radius, thickness, (0, 360), fill)

    def arc(
        self, x: float, y: float, radius: float, thickness: float, degrees: Point, fill: Fill
    ) -> None:
        """Draws a part of a circle's line, clockwise from three o'clock."""
        box = self._pixels([(x - radius, y - radius), (x + radius, y + radius)])
        width = max(1, round(thickness * self.unit))
        self._draw(lambda pen, ink: pen.arc(box, *degrees, fill=ink, width=width), fill)

    def wedge(self, x: float, y: float, radius: float, degrees: Point, fill: Fill) -> None:
        """Fills a slice of a circle, clockwise from three o'clock."""
        box = self._pixels([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw(lambda pen, ink: pen.pieslice(box, *degrees, fill=ink), fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Fill) -> None:
        """Fills an upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def line(self, points: Iterable[Point], thickness: float, fill: Fill) -> None:
        """Draws a line through the points."""
        path = self._pixels(points)
        width = max(1, round(thickness * self.unit))
        self._draw(lambda pen, ink: pen.line(path, fill=ink, width=width, joint="curve"), fill)

    # Light and pattern

    def gradient(self, top: Colour, bottom: Colour, sideways: bool = False) -> Image.Image:
        """A fill that runs from one colour to another."""
        slope = Image.linear_gradient("L")
        if sideways:
            slope = slope.transpose(Image.Transpose.ROTATE_90)
        return ImageOps.colorize(slope.resize(self.image.size), top, bottom)

    def cover(self, fill: Image.Image) -> None:
        """Lays a fill over the whole sheet."""
        self.image.paste(fill)

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """Lights a round patch that fades towards its rim."""
        size = max(2, round(2 * radius * self.unit))
        fade = Image.radial_gradient("L").resize((size, size))
        mask = fade.point(lambda value: max(0, 255 - value * 1.42) * strength)
        corner = (round((x - radius) * self.unit), round((y - radius) * self.unit))
        self.image.paste(Image.new("RGB", (size, size), colour), corner, mask)

    def grid(self) -> tuple[Field, Field]:
        """The coordinates x and y of every pixel."""
        height, width = self.image.height, self.image.width
        y, x = np.mgrid[0:height, 0:width].astype(np.float32) / self.unit
        return x, y

    def halftone(
        self, tone: Callable[[Field, Field], Field], cell: float, paper: Colour, ink: Colour
    ) -> Image.Image:
        """A fill of slanted printing dots, large where the tone is near 1."""
        x, y = self.grid()
        turn = math.pi * 2 / cell / math.sqrt(2)
        screen = (np.cos((x + y) * turn) + np.cos((x - y) * turn)) / 4 + 0.5
        dots = Image.fromarray((screen < tone(x, y)).astype(np.uint8) * 255)
        return ImageOps.colorize(dots, paper, ink)

    def stripes(self, period: float, angle: float, first: Colour, second: Colour) -> Image.Image:
        """A fill of even stripes at an angle in radians."""
        x, y = self.grid()
        phase = (x * math.cos(angle) + y * math.sin(angle)) / period
        bars = Image.fromarray((phase % 1 < 0.5).astype(np.uint8) * 255)
        return ImageOps.colorize(bars, first, second)

    # Lettering

    def lettering(
        self, text: str, box: tuple[float, float, float, float], fill: Fill, weight: float = 0.0
    ) -> None:
        """Sets a line of text that fills the box (left, top, right, bottom) exactly."""
        left, top, right, bottom = (round(edge * self.unit) for edge in box)
        glyphs = _typeset(text, weight).resize((max(1, right - left), max(1, bottom - top)))
        self._stamp(glyphs, (left, top), fill)

    def caption(
        self, text: str, x: float, y: float, size: float, fill: Fill, weight: float = 0.0
    ) -> None:
        """Sets a line of text in its own proportions, with its top left at a point."""
        self.lettering(text, (x, y, x + type_width(text, size, weight), y + size), fill, weight)

    def centred(
        self, text: str, y: float, size: float, fill: Fill, weight: float = 0.0, x: float = 0.5
    ) -> None:
        """Sets a line of text in its own proportions, centred about x."""
        width = type_width(text, size, weight)
        self.caption(text, x - width / 2, y, size, fill, weight)

    def ring_lettering(
        self, text: str, x: float, y: float, radius: float, size: float, span: Point, fill: Fill
    ) -> None:
        """Sets capitals along a circle, from one angle to another in degrees.

        Angles run clockwise from three o'clock; a span that runs backwards
        stands the letters on the inside of the circle.
        """
        start, end = span
        upright = 90 if end > start else -90
        for index, letter in enumerate(text):
            angle = start + (end - start) * (index + 0.5) / len(text)
            turned = _letter(letter, round(size * self.unit)).rotate(
                -(angle + upright), Image.Resampling.BICUBIC
            )
            centre_x = x + radius * math.cos(math.radians(angle))
            centre_y = y + radius * math.sin(math.radians(angle))
            corner = (
                round(centre_x * self.unit - turned.width / 2),
                round(centre_y * self.unit - turned.height / 2),
            )
            self._stamp(turned, corner, fill)

    def _stamp(self, mask: Image.Image, corner: tuple[int, int], fill: Fill) -> None:
        sheet = Image.new("L", self.image.size)
        sheet.paste(mask, corner)
        self.image.paste(fill, (0, 0, *self.image.size), sheet)

    def _draw(self, shape: Callable[[ImageDraw.ImageDraw, Colour | int], None], fill: Fill) -> None:
        if not isinstance(fill, Image.Image):
            shape(ImageDraw.Draw(self.image), fill)
            return
        mask = Image.new("L", self.image.size)
        shape(ImageDraw.Draw(mask), 255)
        self.image.paste(fill, (0, 0), mask)

    def _pixels(self, points: Iterable[Point]) -> list[Point]:
        return [(x * self.unit, y * self.unit) for x, y in points]


def type_width(text: str, size: float, weight: float = 0.0) -> float:
    """How wide a line of text of that height is in its own proportions."""
    glyphs = _typeset(text, weight)
    return size * glyphs.width / glyphs.height


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: int, octaves: int = 3
) -> Field:
    """A cloudy field between about -1 and 1; `cells` patches lie along its longer side."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        rows = max(2, round(count * height / max(shape)))
        columns = max(2, round(count * width / max(shape)))
        coarse = rng.uniform(-1, 1, (rows + 1, columns + 1)).astype(np.float32)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(fine) / 2**octave
    return total


def printed(canvas: Canvas, rng: np.random.Generator, grain: float = 4.0) -> Picture:
    """The sheet as it comes from the press: on uneven, slightly grainy paper."""
    pixels = np.asarray(canvas.finished(), np.float32)
    shape = (pixels.shape[0], pixels.shape[1])
    paper = rng.normal(0, grain, shape) + 5 * smooth_noise(rng, shape, 6)
    return np.clip(pixels + paper[..., None], 0, 255).astype(np.uint8)


def _typeset(text: str, weight: float) -> Image.Image:
    """A mask that holds the text and nothing around it, with strokes fattened by the weight."""
    font = ImageFont.load_default(size=_TYPE_SIZE)
    fat = round(weight * _TYPE_SIZE)
    advances = [font.getlength(letter) + 1.4 * fat for letter in text]
    mask = Image.new("L", (math.ceil(sum(advances)) + _TYPE_SIZE, 2 * _TYPE_SIZE))
    pen = ImageDraw.Draw(mask)
    x = _TYPE_SIZE / 2
    for letter, advance in zip(text, advances, strict=True):
        pen.text((x, _TYPE_SIZE / 4), letter, fill=255, font=font, stroke_width=fat)
        x += advance
    return mask.crop(mask.getbbox())


def _letter(letter: str, size: int) -> Image.Image:
    """One letter in the middle of a square mask with room to turn."""
    font = ImageFont.load_default(size=size)
    mask = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(mask)
    pen.text((size, size), letter, fill=255, font=font, anchor="mm", stroke_width=size // 28)
    return mask
