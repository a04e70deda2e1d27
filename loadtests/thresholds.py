"""What a load test must reach, and whether it did."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

MET, NOT_MET = 0, 1
"""The exit codes."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a load test measured; None stands for what nothing was measured of.

    Wrong answers count in the accuracy, all other failures in the failure share. Latencies are
    those of scans, in milliseconds.
    """

    calls: int
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
    """One limit and what was measured."""

    name: str
    unit: str
    measured: float | None
    limit: float
    met: bool


def judge(measured: Measurements, limits: Thresholds) -> tuple[Verdict, ...]:
    """Compares each measurement with its limit; what was not measured meets none."""
    return (
        _verdict(
            "failures", "share", measured.failure_share, operator.le, limits.max_failure_share
        ),
        _verdict("accuracy", "share", measured.accuracy, operator.ge, limits.min_accuracy),
        _verdict("scan p50", "ms", measured.p50, operator.le, limits.max_p50),
        _verdict("scan p95", "ms", measured.p95, operator.le, limits.max_p95),
        _verdict("scan p99", "ms", measured.p99, operator.le, limits.max_p99),
    )


def exit_code(verdicts: tuple[Verdict, ...]) -> int:
    """0 where all limits are met."""
    return MET if all(verdict.met for verdict in verdicts) else NOT_MET


def _verdict(
    name: str,
    unit: str,
    measured: float | None,
    meets: Callable[[float, float], bool],
    limit: float,
) -> Verdict:
    return Verdict(name, unit, measured, limit, measured is not None and meets(measured, limit))
