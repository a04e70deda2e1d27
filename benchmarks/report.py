"""The recognition benchmark's report, from all answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from benchmarks.metrics import Metrics, Outcome, Rates, measured, rates
from benchmarks.reliability import Judged, Reliability, judged, reliability
from benchmarks.rendered import (
    StrangerRates,
    Strangers,
    Viewed,
    ViewRates,
    stranger_rates,
    view_rates,
)
from benchmarks.timing import Costs, costs


class DatasetReport(Metrics):
    """A dataset's results, what its scans cost, and how well views of its references were found."""

    cpu_milliseconds: Costs
    rendered_views: ViewRates | None


class Report(TypedDict):
    """What the benchmark writes.

    ``overall`` is of the photos of all datasets together. ``calibration`` is of their candidates
    (``real``), of those once what a photo shows is left out, and of those of rendered photos; None
    where there is no candidate. ``rendered`` is of the photos of strangers.
    """

    gallery_size: int
    datasets: dict[str, DatasetReport]
    overall: Rates
    calibration: dict[str, Reliability | None]
    rendered: StrangerRates | None


@dataclass(frozen=True, slots=True)
class Results:
    """All answers: to the photos and the views of each dataset, and to photos of strangers."""

    gallery_size: int
    outcomes: Mapping[str, Sequence[Outcome]]
    views: Mapping[str, Sequence[Viewed]]
    strangers: Strangers
    stranger_views: Sequence[Viewed]

    @property
    def photos(self) -> list[Outcome]:
        """The outcomes of all datasets."""
        return [outcome for each in self.outcomes.values() for outcome in each]


def reported(results: Results) -> Report:
    """The report on all answers."""
    views, strangers = results.stranger_views, results.strangers
    return Report(
        gallery_size=results.gallery_size,
        datasets={
            name: DatasetReport(
                **measured(each),
                cpu_milliseconds=costs(each),
                rendered_views=view_rates(results.views[name]),
            )
            for name, each in results.outcomes.items()
        },
        overall=rates(results.photos),
        calibration={name: reliability(each) for name, each in _candidates(results).items()},
        rendered=stranger_rates(strangers, views) if views else None,
    )


def _candidates(results: Results) -> dict[str, list[Judged]]:
    views = [view for each in results.views.values() for view in each]
    return {
        "real": [c for o in results.photos for c in judged(o.answer, o.expected)],
        "left_out": [c for o in results.photos if o.left_out for c in judged(o.left_out, ())],
        "rendered": [
            *(c for view in views for c in judged(view.answer, (view.rendering.picture,))),
            *(c for view in results.stranger_views for c in judged(view.answer, ())),
        ],
    }
