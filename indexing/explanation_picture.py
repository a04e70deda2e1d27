"""Pictures of a judgement: photo and reference side by side, joined by their matches."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from indexing.explanation import Comparison, Judgement, Verdict
from indexing.image import Pixels
from indexing.verification import Correspondences
from indexing.voting import Floats

PANEL_WIDTH, PANEL_HEIGHT = 720, 560
# The least width has room for the figures, and in the smallest type for the longest title.
MARGIN, CAPTION_HEIGHT, LEAST_WIDTH = 16, 76, 820
TEXT_SIZE, TITLE_SIZES = 17, range(26, 5, -1)
GREEN, RED, AMBER, GREY = (34, 160, 72), (222, 60, 50), (200, 130, 0), (110, 110, 110)
INLIER, OUTLIER, WHITE = (60, 230, 90), (255, 70, 60), (255, 255, 255)
INK, PAPER = (40, 40, 40), (245, 245, 245)
OUTLIER_OPACITY = 0.35
# In sides of the photo: the corners of a degenerate quad may lie beyond all integers.
FURTHEST_CORNER = 20.0

VERDICTS = {
    Verdict.ACCEPTED: ("accepted", GREEN),
    Verdict.SAME_PLACE_AS_BETTER: ("another reference fits this place better", AMBER),
    Verdict.BELOW_THRESHOLD: ("not certain enough", AMBER),
    Verdict.IMPLAUSIBLE_QUAD: ("the matches agree on an impossible shape", RED),
    Verdict.NOT_A_CANDIDATE: ("too little in common", GREY),
    Verdict.INACTIVE: ("inactive, so no scan looks for it", GREY),
}

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Panel:
    """Where a picture lies on the canvas, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def paste(self, canvas: Pixels, picture: Pixels) -> None:
        canvas[self.top : self.top + self.height, self.left : self.left + self.width] = picture

    def pixels_at(self, points: Floats) -> Floats:
        """Positions on the canvas of points in shares of the picture's sides, both [n, 2]."""
        size, origin = (self.width, self.height), (self.left, self.top)
        return np.asarray(points * size + origin, np.float32)


def draw_explanation(photo: Pixels, reference: Pixels, judgement: Judgement) -> Image.Image:
    """Draws why a reference was found in a photo, or why it was not.

    ``photo`` and ``reference`` are RGB, uint8 [height, width, 3]. A line joins the two ends of each
    match: green where it agrees with the homography, faint red where it does not. The quad lies
    over the photo. Where the two were not compared, there are only the pictures and the verdict.
    """
    phrase, colour = VERDICTS[judgement.verdict]
    pictures = [_fitted(photo), _fitted(reference)]
    compared = judgement.comparison
    if compared is not None:
        _draw_quad(pictures[0], compared.match.candidate.evidence.geometry.quad, colour)
    canvas, panels = _side_by_side(pictures)
    if compared is not None:
        _draw_matches(canvas, panels, compared.match.candidate.evidence.geometry.correspondences)
    image = Image.fromarray(canvas)
    _write_title(image, f"{judgement.reference}: {phrase}", colour)
    if compared is not None:
        _write_figures(image, compared)
    return image


def _fitted(picture: Pixels) -> Pixels:
    """A copy as large as the panel allows, at least a pixel on each side."""
    height, width = picture.shape[:2]
    factor = min(PANEL_WIDTH / width, PANEL_HEIGHT / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def _side_by_side(pictures: list[Pixels]) -> tuple[Pixels, list[_Panel]]:
    """The canvas with the pictures beneath the room of the caption, and where they lie there."""
    height = max(picture.shape[0] for picture in pictures)
    together = sum(picture.shape[1] for picture in pictures) + MARGIN * (len(pictures) + 1)
    width = max(together, LEAST_WIDTH)
    canvas = np.full((CAPTION_HEIGHT + height + MARGIN, width, 3), PAPER, np.uint8)
    panels: list[_Panel] = []
    left = MARGIN + (width - together) // 2
    for picture in pictures:
        rows, columns = picture.shape[:2]
        panels.append(_Panel(left, CAPTION_HEIGHT + (height - rows) // 2, columns, rows))
        panels[-1].paste(canvas, picture)
        left += columns + MARGIN
    return canvas, panels


def _draw_quad(photo: Pixels, quad: Floats, colour: Colour) -> None:
    corners = np.nan_to_num(quad).clip(-FURTHEST_CORNER, FURTHEST_CORNER)
    outline = [np.rint(corners * [photo.shape[1], photo.shape[0]]).astype(np.int32)]
    cv2.polylines(photo, outline, True, WHITE, 7, cv2.LINE_AA)
    cv2.polylines(photo, outline, True, colour, 4, cv2.LINE_AA)


def _draw_matches(canvas: Pixels, panels: list[_Panel], matched: Correspondences) -> None:
    starts = panels[0].pixels_at(matched.query_points)
    ends = panels[1].pixels_at(matched.reference_points)
    lines = np.stack([starts, ends], axis=1)
    clear = canvas.copy()
    _draw_lines(canvas, lines[~matched.inlier], OUTLIER)
    cv2.addWeighted(canvas, OUTLIER_OPACITY, clear, 1 - OUTLIER_OPACITY, 0, canvas)
    _draw_lines(canvas, lines[matched.inlier], INLIER)


def _draw_lines(canvas: Pixels, lines: Floats, colour: Colour) -> None:
    """Draws lines between two ends each, float32 [n, 2, 2]."""
    for start, end in np.rint(lines).astype(int).tolist():
        cv2.line(canvas, start, end, colour, 1, cv2.LINE_AA)
        for point in (start, end):
            cv2.circle(canvas, point, 3, colour, -1, cv2.LINE_AA)


def _write_title(image: Image.Image, title: str, colour: Colour) -> None:
    fonts = (ImageFont.load_default(size) for size in TITLE_SIZES)
    font = next(font for font in fonts if font.getlength(title) <= image.width - 2 * MARGIN)
    ImageDraw.Draw(image).text((MARGIN, 26), title, fill=colour, font=font, anchor="lm")


def _write_figures(image: Image.Image, compared: Comparison) -> None:
    geometry = compared.match.candidate.evidence.geometry
    figures = (
        f"probability {compared.match.probability:.3f}, needed {compared.threshold_probability:.3f};"
        f"  {geometry.inliers} of {geometry.matches} matches agree (green),"
        f" on {geometry.coverage:.0%} of the reference"
    )
    font = ImageFont.load_default(TEXT_SIZE)
    ImageDraw.Draw(image).text((MARGIN, 56), figures, fill=INK, font=font, anchor="lm")
