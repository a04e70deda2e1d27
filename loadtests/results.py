"""What came out of a load test, from locust's statistics; those of a master are of all workers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from locust.stats import RequestStats, StatsEntry, StatsError, calculate_response_time_percentile
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests.checks import WrongAnswer
from loadtests.thresholds import Measurements, Unit, Verdict

CALL_TYPE = "gRPC"
SCAN_REGISTERED = "Scan, registered"
SCAN_STRANGER = "Scan, stranger"
SCAN_STREAM = "ScanStream"
SCANS = (SCAN_REGISTERED, SCAN_STRANGER)
"""The calls whose latencies and answers have thresholds."""
RECOGNITIONS = (*SCANS, SCAN_STREAM)
"""Those and the sessions, which last as long as they are meant to: only their answers have."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in some calls, and in how many."""

    call: str
    error: str
    count: int


def measurements(stats: RequestStats) -> Measurements:
    """What thresholds are compared with."""
    calls = stats.total.num_requests
    wrong = sum(each.count for each in failures(stats) if _is_wrong_answer(each))
    answered = wrong + sum(
        each.num_requests - each.num_failures for each in _entries(stats, RECOGNITIONS)
    )
    return Measurements(
        calls=calls,
        answers=answered,
        failure_share=(stats.total.num_failures - wrong) / calls if calls else None,
        accuracy=1 - wrong / answered if answered else None,
        p50=_percentile(stats, 0.50),
        p95=_percentile(stats, 0.95),
        p99=_percentile(stats, 0.99),
    )


def failures(stats: RequestStats) -> list[Failure]:
    """All failures, the most frequent first."""
    found = (
        Failure(each.name, StatsError.parse_error(each.error), each.occurrences)
        for each in stats.errors.values()
    )
    return sorted(found, key=lambda failure: failure.count, reverse=True)


def write_summary(
    file: Path, stats: RequestStats, load: dict[str, object], verdicts: Sequence[Verdict]
) -> None:
    """Writes what was measured, beside the ``load`` that it was measured under."""
    summary = {
        "load": load,
        "calls_per_second": round(stats.total.total_rps, 2),
        "measurements": asdict(measurements(stats)),
        "thresholds": [asdict(verdict) for verdict in verdicts],
        "failures": [asdict(failure) for failure in failures(stats)],
        "met": all(verdict.met for verdict in verdicts),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(summary, indent=2) + "\n")


def print_summary(stats: RequestStats, verdicts: Sequence[Verdict], console: Console) -> None:
    """Prints the calls, what failed, and the thresholds."""
    console.print(_calls_table(stats))
    if stats.errors:
        console.print(_failures_table(stats))
    console.print(_thresholds_table(verdicts))
    met = sum(verdict.met for verdict in verdicts)
    calls, rate = stats.total.num_requests, stats.total.total_rps
    console.print(
        f"{calls} calls, {rate:.1f} a second; {met} of {len(verdicts)} thresholds are met."
    )


def progress(stats: RequestStats, users: int) -> str:
    """One line about how it goes."""
    total = stats.total
    p95 = total.get_current_response_time_percentile(0.95)
    return (
        f"{users:4} users  {total.num_requests:6} calls  {total.current_rps:6.1f} a second  "
        f"p95 {p95 or 0:5.0f} ms  {total.num_failures} failed"
    )


def _is_wrong_answer(failure: Failure) -> bool:
    return failure.error.startswith(f"{WrongAnswer.__name__}(")


def _entries(stats: RequestStats, names: Sequence[str]) -> list[StatsEntry]:
    return [stats.entries[name, CALL_TYPE] for name in names if (name, CALL_TYPE) in stats.entries]


def _percentile(stats: RequestStats, share: float) -> float | None:
    """Of all scans together; locust keeps times to two digits."""
    times: dict[int, int] = {}
    for scan in _entries(stats, SCANS):
        for time, count in scan.response_times.items():
            times[time] = times.get(time, 0) + count
    if not times:
        return None
    return float(calculate_response_time_percentile(times, sum(times.values()), share))


def _calls_table(stats: RequestStats) -> Table:
    table = _table("Calls", "call", "calls", "a second", "failed", "p50 ms", "p95 ms", "p99 ms")
    made = (entry for entry in stats.entries.values() if entry.num_requests)
    for entry in sorted(made, key=lambda entry: entry.num_requests, reverse=True):
        percentiles = (entry.get_response_time_percentile(share) for share in (0.5, 0.95, 0.99))
        table.add_row(
            entry.name,
            f"{entry.num_requests}",
            f"{entry.total_rps:.1f}",
            f"{entry.num_failures}",
            *(f"{each:.0f}" for each in percentiles),
        )
    return table


def _failures_table(stats: RequestStats) -> Table:
    table = _table("Failures", "call", "count", "error")
    for failure in failures(stats):
        table.add_row(failure.call, f"{failure.count}", failure.error)
    return table


def _thresholds_table(verdicts: Sequence[Verdict]) -> Table:
    table = _table("Thresholds", "", "measured", "limit", "")
    for each in verdicts:
        measured = "nothing" if each.measured is None else _text(each.measured, each.unit)
        limit = f"{each.kind} {_text(each.limit, each.unit)}"
        table.add_row(each.name, measured, limit, "met" if each.met else "NOT MET")
    return table


def _text(value: float, unit: Unit) -> str:
    return f"{100 * value:.3g} %" if unit == "share" else f"{value:.0f} ms"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = number > 0 and column not in {"error", ""}
        table.add_column(column, justify="right" if numeric else "left")
    return table
