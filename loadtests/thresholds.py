"""What a load test must reach, and whether it did."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MET, NOT_MET = 0, 1
"""The exit codes."""

Unit = Literal["share", "ms"]


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a load test measured; None stands for what nothing was measured of.

    ``accuracy`` is the share of right ``answers`` to scans; all other failures count in
    ``failure_share``, of all ``calls``. Latencies are those of scans, in milliseconds.
    """

    calls: int
    answers: int
    failure_share: float | None
    accuracy: float | None
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits."""

    max_failure_share: float
    min_accuracy: float
    max_p50: float
    max_p95: float
    max_p99: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One limit, what was measured, and whether it is met: what was not measured meets none."""

    name: str
    measured: float | None
    kind: Literal["at most", "at least"]
    limit: float
    unit: Unit
    met: bool


def judge(measured: Measurements, limits: Thresholds) -> tuple[Verdict, ...]:
    """Compares each measurement with its limit."""
    return (
        _at_most("failures", measured.failure_share, limits.max_failure_share, "share"),
        _at_least("accuracy", measured.accuracy, limits.min_accuracy, "share"),
        _at_most("scan p50", measured.p50, limits.max_p50, "ms"),
        _at_most("scan p95", measured.p95, limits.max_p95, "ms"),
        _at_most("scan p99", measured.p99, limits.max_p99, "ms"),
    )


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """MET where all limits are met."""
    return MET if all(verdict.met for verdict in verdicts) else NOT_MET


def _at_most(name: str, measured: float | None, limit: float, unit: Unit) -> Verdict:
    met = measured is not None and measured <= limit
    return Verdict(name, measured, "at most", limit, unit, met)


def _at_least(name: str, measured: float | None, limit: float, unit: Unit) -> Verdict:
    met = measured is not None and measured >= limit
    return Verdict(name, measured, "at least", limit, unit, met)
