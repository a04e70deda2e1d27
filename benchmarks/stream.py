"""The stream benchmark: what a camera session answers, beside single scans of its frames.

Sessions are rendered: a phone pans onto a registered picture, or onto a stranger. Each frame is
recognised once; then it is asked, at several false-accept budgets, whether a scan of the last one would
answer, when a scan of each would for the first time, and when a session does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypedDict

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.baselines import shuffled
from benchmarks.errors import BenchmarkError
from benchmarks.galleries import Gallery, LocalGallery
from benchmarks.intervals import Interval, exact_interval
from benchmarks.json_file import write_json
from benchmarks.panning import film
from benchmarks.queries import SEED
from benchmarks.rendered import fair_strangers
from benchmarks.tables import print_gallery
from indexing.bundle import Bundle, load_bundle
from indexing.decision import Candidate, Match, accepted
from indexing.session import CORRELATION, WATCHED_SHARE, Session
from training.datasets import find_pictures, read_picture

FRAMES = 16
FRAMES_PER_SECOND = 5.0
REAPPEAR_AFTER = 2.0
BUDGETS = (0.00001, 0.001, 0.01, 0.1)
CORRELATIONS = (0.0, CORRELATION, 1.0)

console = Console(highlight=False)

Filmed = Sequence[tuple[Candidate, ...]]
Rule = Callable[[Filmed, float], list[tuple[int, Match]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: ``sessions`` of registered pictures and as many of strangers."""

    pictures: Sequence[Path]
    bundle: Path
    output: Path
    sessions: int
    gallery: int


@dataclass(frozen=True, slots=True)
class _Shoot:
    picture: Path
    seed: tuple[int, ...]


class RuleReport(TypedDict):
    """What one rule answered at one budget.

    ``answered`` counts sessions of registered pictures answered rightly, within ``frames_until`` frames
    in the median; ``wrong`` counts those that got another reference too. ``false_accepts`` counts
    sessions of strangers that got any, ``false_frames`` the frames at which one was answered anew.
    """

    answered: int
    answered_share: float
    answered_interval: Interval
    frames_until: float | None
    wrong: int
    false_accepts: int
    false_accept_share: float
    false_accept_interval: Interval
    false_frames: int


class Report(TypedDict):
    """All figures, by the budget and the rule.

    ``watched_share`` is that of the strangers' frames with a candidate that a session follows;
    ``measured_correlation`` is how the rarities of one such reference in two frames in a row
    correlate, None where there are too few; ``assumed_correlation`` is what the server goes by.
    """

    bundle: str
    gallery_size: int
    registered_sessions: int
    stranger_sessions: int
    frames: int
    watched_share: float
    measured_correlation: float | None
    assumed_correlation: float
    budgets: dict[str, dict[str, RuleReport]]


def run(plan: Plan) -> Report:
    """Renders the sessions, recognises their frames and compares the rules.

    Raises BenchmarkError where there are too few pictures.
    """
    bundle = load_bundle(plan.bundle)
    found = shuffled(find_pictures(plan.pictures), np.random.default_rng(SEED))
    registered, rest = found[: plan.gallery], found[plan.gallery :]
    if not rest:
        raise BenchmarkError("Give more pictures than --gallery: some must stay strangers.")
    gallery = LocalGallery(bundle, registered)
    print_gallery(console, gallery)
    strangers = fair_strangers(gallery, rest[: 2 * plan.sessions]).fair[: plan.sessions]
    shown = [path for path in registered if path in gallery][: plan.sessions]
    right = _filmed(gallery, shown, "Sessions of registered pictures")
    wrong = _filmed(gallery, strangers, "Sessions of strangers")
    budgets = {
        f"{budget:g}": {
            name: _judged(rule, budget, list(zip(shown, right, strict=True)), wrong)
            for name, rule in _rules(bundle).items()
        }
        for budget in BUDGETS
    }
    watched = [[_watched(frame, bundle) for frame in filmed] for filmed in wrong]
    frames = [frame for filmed in watched for frame in filmed]
    report = Report(
        bundle=bundle.version,
        gallery_size=len(gallery),
        registered_sessions=len(shown),
        stranger_sessions=len(strangers),
        frames=FRAMES,
        watched_share=sum(map(bool, frames)) / len(frames),
        measured_correlation=_correlation(watched),
        assumed_correlation=CORRELATION,
        budgets=budgets,
    )
    write_json(plan.output, report)
    console.print(_table(report))
    console.print(_chance(report))
    return report


def _filmed(gallery: LocalGallery, pictures: Sequence[Path], description: str) -> list[Filmed]:
    shoots = [_Shoot(path, (SEED, number)) for number, path in enumerate(pictures)]
    return list(gallery.across(_recognised, shoots, description))


def _recognised(gallery: Gallery, shoot: _Shoot) -> Filmed:
    assert isinstance(gallery, LocalGallery)
    frames = film(read_picture(shoot.picture), FRAMES, np.random.default_rng(shoot.seed))
    return [gallery.recognition(frame).candidates for frame in frames]


def _rules(bundle: Bundle) -> dict[str, Rule]:
    calibration = bundle.calibration

    def scans(filmed: Filmed, budget: float) -> list[tuple[int, Match]]:
        return [
            (number, match)
            for number, candidates in enumerate(filmed)
            for match in accepted(candidates, calibration, budget)
        ]

    def last_scan(filmed: Filmed, budget: float) -> list[tuple[int, Match]]:
        return [(number, match) for number, match in scans(filmed, budget) if number == FRAMES - 1]

    def session(correlation: float) -> Rule:
        def told(filmed: Filmed, budget: float) -> list[tuple[int, Match]]:
            camera = Session(budget, REAPPEAR_AFTER, correlation)
            return [
                (number, sighting.match)
                for number, candidates in enumerate(filmed)
                for sighting in camera.see(candidates, calibration, number / FRAMES_PER_SECOND)
            ]

        return told

    return {"one scan": last_scan, "a scan a frame": scans} | {
        f"session, r = {each:g}": session(each) for each in CORRELATIONS
    }


def _watched(candidates: Sequence[Candidate], bundle: Bundle) -> dict[str, float]:
    """The rarities of what a session would follow in a frame, by the reference."""
    calibration = bundle.calibration
    return {
        match.candidate.reference: calibration[match.candidate.evidence.channel].rarity(
            match.log_odds
        )
        for match in accepted(candidates, calibration, WATCHED_SHARE)
    }


def _correlation(watched: Sequence[Sequence[dict[str, float]]]) -> float | None:
    """Of one reference's rarities in two frames in a row, 0 where it was not followed."""
    pairs = [
        (before.get(reference, 0.0), after.get(reference, 0.0))
        for filmed in watched
        for reference in {name for frame in filmed for name in frame}
        for before, after in pairwise(filmed)
    ]
    if not any(before for before, _ in pairs) or not any(after for _, after in pairs):
        return None
    return float(np.corrcoef(np.array(pairs).T)[0, 1])


def _chance(report: Report) -> str:
    measured = report["measured_correlation"]
    shown = "too few to say" if measured is None else f"{measured:.2f}"
    return (
        f"Of the strangers' frames {100 * report['watched_share']:.1f} % have a candidate that sessions "
        f"follow; the correlation of two frames in a row is {shown}, and "
        f"{report['assumed_correlation']:g} is assumed."
    )


def _judged(
    rule: Rule, budget: float, right: Sequence[tuple[Path, Filmed]], strange: Sequence[Filmed]
) -> RuleReport:
    until, wrong = [], 0
    for picture, filmed in right:
        told = rule(filmed, budget)
        first = [n + 1 for n, match in told if match.candidate.reference == str(picture)][:1]
        until += first
        wrong += any(match.candidate.reference != str(picture) for _, match in told)
    false = [len({number for number, _ in rule(filmed, budget)}) for filmed in strange]
    accepts = sum(map(bool, false))
    return RuleReport(
        answered=len(until),
        answered_share=len(until) / len(right),
        answered_interval=exact_interval(len(until), len(right)),
        frames_until=median(until) if until else None,
        wrong=wrong,
        false_accepts=accepts,
        false_accept_share=accepts / len(strange),
        false_accept_interval=exact_interval(accepts, len(strange)),
        false_frames=sum(false),
    )


def _table(report: Report) -> Table:
    title = (
        f"{report['registered_sessions']} sessions of registered pictures and "
        f"{report['stranger_sessions']} of strangers, {report['frames']} frames each"
    )
    table = Table(title=title, caption="r: the correlation of frames that a session assumes")
    headings = ("answered", "frames", "wrong", "strangers", "their frames")
    for heading in ("budget", "rule", *headings):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for budget, rules in report["budgets"].items():
        for name, each in rules.items():
            table.add_row(budget, name, *_cells(each, report["stranger_sessions"] * FRAMES))
        table.add_section()
    return table


def _cells(each: RuleReport, stranger_frames: int) -> tuple[str, ...]:
    low, high = each["answered_interval"]
    until = "-" if each["frames_until"] is None else f"{each['frames_until']:g}"
    frames = each["false_frames"] / stranger_frames
    return (
        f"{100 * each['answered_share']:.0f} % ({100 * low:.0f}–{100 * high:.0f})",
        until,
        str(each["wrong"]),
        f"{100 * each['false_accept_share']:.1f} %",
        f"{100 * frames:.3f} %",
    )
