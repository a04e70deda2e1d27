"""What a scan costs one processor core after decoding, stage by stage."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import TypedDict

from benchmarks.metrics import Answer, Outcome


class Cost(TypedDict):
    """Medians in milliseconds of processor time.

    ``total`` is measured. A stage has the share of it that it had of the time on the clock; its
    median is over the scans that came to it, and ``reached`` is the share that did.
    """

    scans: int
    total: float
    stages: dict[str, float]
    reached: dict[str, float]


class Costs(TypedDict):
    """The cost of photos that show something registered, and of those that show nothing.

    The latter are the photos without an answer, and the others once what they show is left out.
    """

    registered: Cost | None
    unregistered: Cost | None


def costs(outcomes: Sequence[Outcome]) -> Costs:
    """The costs of a dataset's photos; None where the pipeline does not tell."""
    left_out = [outcome.left_out for outcome in outcomes if outcome.left_out]
    return Costs(
        registered=_cost(outcome.answer for outcome in outcomes if outcome.expected),
        unregistered=_cost(
            [*(outcome.answer for outcome in outcomes if not outcome.expected), *left_out]
        ),
    )


def _cost(answers: Iterable[Answer]) -> Cost | None:
    told = [(a.cpu, a.stages) for a in answers if a.cpu is not None and a.stages is not None]
    if not told:
        return None
    names = dict.fromkeys(stage for _, stages in told for stage in stages)
    times = {name: [stages[name] for _, stages in told if name in stages] for name in names}
    return Cost(
        scans=len(told),
        total=median(cpu for cpu, _ in told),
        stages={name: median(values) for name, values in times.items()},
        reached={name: len(values) / len(told) for name, values in times.items()},
    )
