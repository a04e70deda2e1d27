"""The recognition benchmark's report, printed as tables."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.failures import Failure
from benchmarks.galleries import Gallery
from benchmarks.intervals import Interval
from benchmarks.metrics import SHORTLIST_SIZES, Rates
from benchmarks.operating import PRECISIONS
from benchmarks.report import DatasetReport, Report
from benchmarks.timing import Cost

LISTED_FAILURES = 20
LISTED_WORST = 5
# The rates by their keys, and what they are called; those of sub-folders are beside each other.
RATES = {
    "recall_at_1": "recall @1 (accepted and right)",
    "covered_recall_at_1": "recall @1, partly covered",
    "false_accept_rate": "false accepts",
    "left_out_false_accept_rate": "false accepts, reference left out",
    "false_positive_identification_rate": "false accepts, either way",
    "wrong_accept_rate": "wrong accepts",
}
GROUP_RATES = {
    "recall_at_1": "recall @1",
    "covered_recall_at_1": "partly covered",
    "false_positive_identification_rate": "false accepts",
    "wrong_accept_rate": "wrong accepts",
}


def print_gallery(console: Console, gallery: Gallery) -> None:
    """Prints how big a gallery is, and what was not taken in."""
    console.print(f"The gallery has {len(gallery)} references.")
    if gallery.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in gallery.skipped.items())
        console.print(f"Skipped: {reasons}.")


def print_report(console: Console, report: Report) -> None:
    """Prints a report: rates with their 95 % intervals, first of each dataset, then of its parts."""
    for table in _tables(report):
        console.print(table)


def print_failures(console: Console, failures: Sequence[Failure]) -> None:
    """Prints the first failures, a row for each."""
    if not failures:
        return
    listed = f"the first {LISTED_FAILURES} of {len(failures)}"
    title = f"Failures, {listed if len(failures) > LISTED_FAILURES else len(failures)}"
    table = _table(title, "problem", "photo", "expected", "got", left=4)
    for failure in failures[:LISTED_FAILURES]:
        photo = f"{failure.photo.parent.name}/{failure.photo.name}"
        got = [f"{each.reference.name} ({each.probability:.2f})" for each in failure.answer.found]
        expected = [path.name for path in failure.expected]
        table.add_row(failure.problem, photo, "\n".join(expected), "\n".join(got))
    console.print(table)


def _tables(report: Report) -> Iterator[Table]:
    yield _rates_table(report)
    for name, each in report["datasets"].items():
        if each["by_group"]:
            yield _groups_table(name, each)
    if any(each["cpu_milliseconds"]["registered"] for each in report["datasets"].values()):
        yield _costs_table(report)
    if any(report["calibration"].values()):
        yield _calibration_table(report)
    if report["rendered"]:
        yield _strangers_table(report)


def _rates_table(report: Report) -> Table:
    datasets, overall = report["datasets"], report["overall"]
    title = f"Recognition in a gallery of {report['gallery_size']}"
    table = _table(title, "", *datasets, *(["all"] if len(datasets) > 1 else []))
    columns = [_column(each) | _dataset_column(each) for each in datasets.values()]
    columns += [_column(overall)] if len(datasets) > 1 else []
    for row in columns[0] if columns else ():
        table.add_row(row, *(column.get(row, "") for column in columns))
    return table


def _column(rates: Rates) -> dict[str, str]:
    shown = {"queries": str(rates["queries"])}
    for size in SHORTLIST_SIZES:
        recall = (rates["shortlist_recall"] or {}).get(str(size))
        shown[f"shortlist recall @{size}"] = _rate(rates, f"shortlist_recall_at_{size}", recall)
    shown |= _some_rates(rates, RATES)
    for precision in PRECISIONS:
        recall = (rates["recall_at_precision"] or {}).get(str(precision))
        name = f"recall @{100 * precision:g} % precision"
        shown[name] = _rate(rates, f"recall_at_{precision}_precision", recall)
    return shown


def _some_rates(rates: Rates, names: Mapping[str, str]) -> dict[str, str]:
    values = {key: value for key, value in rates.items() if isinstance(value, float)}
    return {name: _rate(rates, key, values.get(key)) for key, name in names.items()}


def _dataset_column(dataset: DatasetReport) -> dict[str, str]:
    views = dataset["rendered_views"]
    error = views and views["quad_corner_error"]
    return {
        "milliseconds per query": _shown(dataset["milliseconds_per_query"], ".0f"),
        "rendered views": str(views["views"]) if views else "-",
        "rendered views, recall @1": _share(views["recall"], views["interval"]) if views else "-",
        "quad corner error, median": _shown(error and error["median"], ".2f", " %"),
        "quad corner error, 90th percentile": _shown(error and error["percentile_90"], ".2f", " %"),
    }


def _groups_table(name: str, dataset: DatasetReport) -> Table:
    table = _table(f"{name} by sub-folder", "", "queries", *GROUP_RATES.values())
    for group, rates in dataset["by_group"].items():
        shown = _some_rates(rates, GROUP_RATES).values()
        table.add_row(group, str(rates["queries"]), *shown)
    return table


def _costs_table(report: Report) -> Table:
    costs = {
        f"{name}, {part}": cost
        for name, dataset in report["datasets"].items()
        for part, cost in (
            ("registered", dataset["cpu_milliseconds"]["registered"]),
            ("unregistered", dataset["cpu_milliseconds"]["unregistered"]),
        )
        if cost
    }
    stages = dict.fromkeys(stage for cost in costs.values() for stage in cost["stages"])
    title = "Milliseconds of one core after decoding, medians (share of the scans that came there)"
    names = [stage.replace("_", " ") for stage in stages]
    table = _table(title, "", "scans", *names, "total")
    for name, cost in costs.items():
        shown = [_stage(cost, stage) for stage in stages]
        table.add_row(name, str(cost["scans"]), *shown, f"{cost['total']:.1f}")
    return table


def _stage(cost: Cost, stage: str) -> str:
    if stage not in cost["stages"]:
        return "-"
    share = cost["reached"][stage]
    return f"{cost['stages'][stage]:.1f}" + (f" ({share:.0%})" if share < 1 else "")


def _calibration_table(report: Report) -> Table:
    headings = ("candidates", "right", "expected calibration error", "Brier score")
    table = _table("Probabilities of all plausible candidates", "", *headings)
    for name, each in report["calibration"].items():
        if each is None:
            continue
        table.add_row(
            name.replace("_", " "),
            str(each["candidates"]),
            str(each["right"]),
            f"{each['expected_calibration_error']:.4f}",
            f"{each['brier_score']:.4f}",
        )
    return table


def _strangers_table(report: Report) -> Table:
    rendered = report["rendered"]
    assert rendered is not None
    left_out = f"{rendered['related']} related and {rendered['unreadable']} unreadable left out"
    shown = _share(rendered["false_accept_rate"], rendered["interval"], 3)
    title = (
        f"{rendered['photos']} rendered photos of {rendered['strangers']} strangers ({left_out}): "
        f"{rendered['false_accepts']} false accepts, {shown}; the worst"
    )
    table = _table(title, "stranger", "reference", "probability", "inliers", "accepted", left=2)
    for worst in rendered["worst"][:LISTED_WORST]:
        table.add_row(
            worst["picture"].rsplit("/", 1)[-1],
            worst["reference"].rsplit("/", 1)[-1],
            f"{worst['probability']:.4f}",
            _shown(worst["inliers"], "d"),
            "yes" if worst["accepted"] else "no",
        )
    return table


def _table(title: str, *headings: str, left: int = 1) -> Table:
    table = Table(title=title)
    for number, heading in enumerate(headings):
        if number < left:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right")
    return table


def _rate(rates: Rates, name: str, value: float | None) -> str:
    return _share(value, rates["intervals"].get(name))


def _share(value: float | None, interval: Interval | None, digits: int = 1) -> str:
    """A share in percent with its interval, as "98.1 % (95.6–99.4)"."""
    if value is None:
        return "-"
    shown = f"{100 * value:.{digits}f} %"
    if interval is None:
        return shown
    low, high = (f"{100 * bound:.{digits}f}" for bound in interval)
    return f"{shown} ({low}–{high})"


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit
