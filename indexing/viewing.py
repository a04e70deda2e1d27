"""The phone views by which a clean picture is assessed: a few under each of some named conditions."""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from indexing.image import Pixels
from indexing.views import View, ViewConditions, clutter, cover, render_view

VIEWS_PER_SETTING = 4
SURFACE = (640, 480)
CLOSE_UP, FAR_OFF = 0.4, 0.1


class ViewingCondition(StrEnum):
    """What makes a view hard, beside its distance."""

    CLEAR = "clear"
    TILTED = "tilted"
    BLURRED = "blurred"
    DIM = "dim"
    GLARE = "glare"
    COVERED = "covered"


@dataclass(frozen=True, slots=True)
class Setting:
    """A condition at one strength.

    ``light`` is the share of the light that is left, ``glare`` the radius of a reflection and
    ``cover`` the least and greatest share that something hides, in shares of the picture.
    """

    condition: ViewingCondition
    view: ViewConditions
    light: float = 1.0
    glare: float = 0.0
    cover: tuple[float, float] = (0.0, 0.0)


ORDINARY = ViewConditions(
    area=(0.2, 0.2),
    tilt=20.0,
    turned=0.0,
    cut_off=0.0,
    occlusion=0.0,
    lighting=0.5,
    blur=0.5,
    noise=0.5,
    jpeg_quality=(50, 95),
)
SETTINGS = (
    Setting(ViewingCondition.CLEAR, replace(ORDINARY, area=(CLOSE_UP, CLOSE_UP))),
    Setting(ViewingCondition.CLEAR, ORDINARY),
    Setting(ViewingCondition.CLEAR, replace(ORDINARY, area=(FAR_OFF, FAR_OFF))),
    Setting(ViewingCondition.CLEAR, replace(ORDINARY, area=(0.05, 0.05))),
    # Nine in ten of the tilts that are drawn are below 55 degrees.
    Setting(ViewingCondition.TILTED, replace(ORDINARY, tilt=75.0)),
    Setting(ViewingCondition.BLURRED, replace(ORDINARY, blur=2.0)),
    Setting(ViewingCondition.DIM, replace(ORDINARY, noise=2.0), light=0.25),
    Setting(ViewingCondition.GLARE, ORDINARY, glare=0.35),
    Setting(ViewingCondition.COVERED, ORDINARY, cover=(0.1, 0.33)),
)


@dataclass(frozen=True, slots=True)
class Viewing:
    """A view to render: the ``turn``-th of a setting, from the seed of its picture."""

    setting: Setting
    turn: int
    seed: int

    def render(self, picture: Pixels) -> View:
        """Photographs a picture, RGB uint8 [height, width, 3], lying on a bare surface.

        The same picture, setting and turn give the same view. One turn has the same camera and
        surface in all settings, so that their rates differ by the condition and not by luck.
        """
        rng = np.random.default_rng((self.seed, self.turn))
        own = np.random.default_rng((self.seed, self.turn, 1))
        surface = clutter([], SURFACE, rng)
        lit = _dimmed(_glaring(picture, self.setting.glare, own), self.setting.light)
        view = render_view(lit, _dimmed(surface, self.setting.light), self.setting.view, rng)
        least, greatest = self.setting.cover
        if greatest:
            share = least + (greatest - least) * self.turn / (VIEWS_PER_SETTING - 1)
            cover(view.photo, view.quad, share, own)
        return view


def planned_views(sha256: bytes) -> tuple[Viewing, ...]:
    """The views to render of a picture whose file has this digest, setting by setting."""
    seed = int.from_bytes(sha256[:8], "big")
    return tuple(
        Viewing(setting, turn, seed) for setting in SETTINGS for turn in range(VIEWS_PER_SETTING)
    )


def _dimmed(picture: Pixels, light: float) -> Pixels:
    return picture if light == 1.0 else np.asarray(picture * light, np.uint8)


def _glaring(picture: Pixels, radius: float, rng: np.random.Generator) -> Pixels:
    """The picture with the reflection of a lamp, ``radius`` in shares of its sides."""
    if not radius:
        return picture
    height, width = picture.shape[:2]
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    across, down = rng.uniform(0.2, 0.8, 2)
    distance = ((x - across) ** 2 + (y - down) ** 2) / radius**2
    return np.asarray(np.minimum(picture + 255 * np.exp(-(distance**2))[..., None], 255), np.uint8)
