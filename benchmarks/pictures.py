"""Photos with what was found drawn in, for people to look at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.metrics import Quad
from indexing.image import Pixels

GREEN, RED, GREY = (40, 200, 70), (230, 50, 40), (120, 120, 120)

Colour = tuple[int, int, int]


def annotated(photo: Pixels, marks: Sequence[tuple[Quad, str]], colour: Colour) -> Image.Image:
    """A photo, RGB uint8 [height, width, 3], with quads in shares of its sides and their labels."""
    image = Image.fromarray(photo)
    draw = ImageDraw.Draw(image)
    thickness = max(3, max(image.size) // 160)
    for quad, _ in marks:
        corners = [(float(x), float(y)) for x, y in quad * np.array(image.size)]
        draw.line([*corners, corners[0], corners[1]], fill=colour, width=thickness, joint="curve")
    for quad, label in marks:
        middle = (quad.mean(axis=0).clip(0.1, 0.9) * np.array(image.size)).tolist()
        _write(draw, (middle[0], middle[1]), label, colour, max(image.size) // 26)
    return image


def titled(image: Image.Image, title: str, colour: Colour, side: int) -> Image.Image:
    """An image scaled into a square of ``side`` pixels, framed, with its title beneath."""
    band = max(14, side // 12)
    cell = Image.new("RGB", (side, side + band), "white")
    small = image.copy()
    small.thumbnail((side - 12, side - 12))
    left, top = (side - small.width) // 2, (side - small.height) // 2
    draw = ImageDraw.Draw(cell)
    frame = (left - 3, top - 3, left + small.width + 2, top + small.height + 2)
    draw.rectangle(frame, outline=colour, width=3)
    cell.paste(small, (left, top))
    font = ImageFont.load_default(band * 0.75)
    draw.text((side / 2, side + band / 2), title, fill=colour, font=font, anchor="mm")
    return cell


def contact_sheet(cells: Sequence[Image.Image], columns: int) -> Image.Image:
    """Images of one size in rows."""
    columns = min(columns, len(cells))
    width, height = cells[0].size
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet.paste(cell, (column * width, row * height))
    return sheet


def _write(
    draw: ImageDraw.ImageDraw, middle: tuple[float, float], text: str, colour: Colour, size: int
) -> None:
    font = ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox(middle, text, font=font, anchor="mm")
    margin = size / 4
    draw.rectangle((left - margin, top - margin, right + margin, bottom + margin), fill=colour)
    draw.text(middle, text, fill="white", font=font, anchor="mm")
