"""How many users there are at each moment of a load test."""

import math
from collections.abc import Callable
from dataclasses import dataclass

MINUTE = 60.0
RAMP_STEPS = 10
SPIKE_REST = 0.2
"""The share of the users who are there before and after a spike."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A course of the load: the share of the peak's users at each share of the time."""

    description: str
    run_time: float
    """Seconds that it takes unless another time is asked for."""
    level: Callable[[float], float]

    def users(self, second: float, peak: int, run_time: float) -> int | None:
        """The users of this second, at least one; None once the time is over."""
        if second >= run_time:
            return None
        return max(1, round(peak * self.level(second / run_time)))


def _steady(_: float) -> float:
    return 1.0


def _ramp(passed: float) -> float:
    # In steps, so that each has a throughput and latencies of its own in the history.
    return math.floor(1 + passed * RAMP_STEPS) / RAMP_STEPS


def _spike(passed: float) -> float:
    return 1.0 if 1 / 3 <= passed < 2 / 3 else SPIKE_REST


SHAPES = {
    "steady": Shape("all users from the beginning", 2 * MINUTE, _steady),
    "ramp": Shape("ever more users, in ten steps", 5 * MINUTE, _ramp),
    "spike": Shape("a fifth of the users, all of them, a fifth again", 3 * MINUTE, _spike),
    "soak": Shape("all users for long", 20 * MINUTE, _steady),
}
"""The shapes by name."""
