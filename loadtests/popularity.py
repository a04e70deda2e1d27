"""How often each publisher is asked: few of them get most of the scans."""

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ZipfChoice(Generic[Item]):
    """Draws items so that the one of rank r comes up in proportion to 1 / r ** exponent.

    With an exponent of 0 all are equally popular.
    """

    def __init__(self, items: Sequence[Item], exponent: float, rng: random.Random) -> None:
        """``items`` are in the order of their ranks, the most popular first."""
        self._items = items
        self._rng = rng
        self._cumulative = list(accumulate(rank**-exponent for rank in range(1, len(items) + 1)))

    def draw(self) -> Item:
        """The next item."""
        (item,) = self._rng.choices(self._items, cum_weights=self._cumulative)
        return item
