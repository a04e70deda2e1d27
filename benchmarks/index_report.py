"""The index benchmark's report, and how it is printed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from rich.table import Table

from benchmarks.index_choices import Choice
from benchmarks.index_freshness import Freshness
from benchmarks.index_pgvector import Comparison
from benchmarks.index_replica import Cold, DescriptorMemory, Memory, Throughput
from benchmarks.index_server import Searchable

# What is asked of the main figures: (at most, or at least, how much).
GOALS = {
    "memory_ratio": ("≤", 1.25),
    "start_seconds": ("≤", 10),
    "cold_extra_ms": ("≤", 100),
    "throughput_vs_faiss": ("≥", 0.95),
    "throughput_vs_pgvector": ("≥", 5),
    "searchable_p95_seconds": ("≤", 1),
}


class VectorReport(TypedDict):
    """What was measured of galleries of vectors alone."""

    memory: Memory
    throughput: Throughput
    pgvector: Comparison


class PictureReport(TypedDict):
    """What was measured of galleries of pictures with all their features."""

    descriptor_memory: DescriptorMemory
    cold: Cold
    freshness: Freshness


class Report(VectorReport, PictureReport):
    """What the benchmark writes: its six main figures, and all that they come from."""

    memory_ratio: float
    start_seconds: float
    cold_extra_ms: float
    throughput_vs_faiss: float
    throughput_vs_pgvector: float
    searchable_p95_seconds: float
    searchable: Searchable
    choices: list[Choice]


def tables(report: Report) -> Iterator[Table]:
    """The report as tables: kinds of indexes, then everything else, then the main figures."""
    yield _choices("Image vectors of 256 numbers", "vector", report["choices"], "image")
    for channel in ("orb", "sift"):
        title = f"Descriptors of the {channel} channel"
        yield _choices(title, "picture", report["choices"], channel)
    yield _details(report)
    yield _main(report)


def _choices(title: str, each: str, choices: Sequence[Choice], channel: str) -> Table:
    table = Table(title=title, caption="* what ImageLink has at this size")
    table.add_column("kind")
    for name in (f"{each}s", "recall", "ms", "ms in a batch", f"bytes a {each}", "s to build"):
        table.add_column(name, justify="right")
    for choice in choices:
        if choice["channel"] == channel:
            table.add_row(f"{choice['kind']}{' *' * choice['chosen']}", *_figures(choice))
    return table


def _figures(choice: Choice) -> tuple[str, ...]:
    batch = choice["batch_milliseconds"]
    return (
        str(choice["size"]),
        f"{choice['recall']:.3f}",
        f"{choice['milliseconds']:.2f}",
        "" if batch is None else f"{batch:.2f}",
        f"{choice['bytes_each']:.0f}",
        f"{choice['build_seconds']:.2f}",
    )


def _details(report: Report) -> Table:
    table = Table(title="All else")
    for name in ("measurement", "figure"):
        table.add_column(name)
    table.add_column("value", justify="right")
    parts: dict[str, Mapping[str, Any]] = {
        "memory of vectors": report["memory"],
        "memory of descriptors": report["descriptor_memory"],
        "first scan": report["cold"],
        "beside FAISS": report["throughput"],
        "beside pgvector": report["pgvector"],
        "while registering": report["freshness"],
        "until searchable": report["searchable"],
    }
    for part, figures in parts.items():
        for number, (figure, value) in enumerate(_flat(figures)):
            table.add_row("" if number else part, figure.replace("_", " "), _number(value))
    return table


def _flat(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}: {inner}", number) for inner, number in _flat(value))
        else:
            yield name, value


def _main(report: Report) -> Table:
    table = Table(title="Main figures")
    for name in ("figure", "goal", "value"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for name, (relation, goal) in GOALS.items():
        value = report[name]  # type: ignore[literal-required]
        table.add_row(name, f"{relation} {goal}", _number(value))
    return table


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
