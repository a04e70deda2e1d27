"""Metrics of scans."""

from ray.serve import metrics

from indexing.errors import ImageLinkError
from indexing.recognition import Recognition
from server.status import reason

# The bounds of histograms.
SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64]


class Meter:
    """What becomes of this replica's scans, in metrics that Ray hands to Prometheus."""

    def __init__(self) -> None:
        self._scans = metrics.Counter(
            "imagelink_scans", "Scans, by what became of them.", ("outcome",)
        )
        self._seconds = metrics.Histogram(
            "imagelink_scan_seconds", "From a scan's arrival to its answer.", SECONDS
        )
        self._stages = metrics.Histogram(
            "imagelink_scan_stage_seconds", "A stage of a batch of scans.", SECONDS, ("stage",)
        )
        self._batches = metrics.Histogram(
            "imagelink_scan_batch_size", "Scans in a micro-batch.", BATCH_SIZES
        )
        self._waiting = metrics.Gauge("imagelink_scans_waiting", "Scans that wait for their turn.")

    def began(self, batch_size: int, waiting: int) -> None:
        """Takes note of a batch, and of how many scans still wait."""
        self._batches.observe(batch_size)
        self._waiting.set(waiting)

    def answered(self, found: Recognition, seconds: float) -> None:
        """Takes note of an answer, so long after the scan came."""
        self._scans.inc(tags={"outcome": found.outcome})
        self._seconds.observe(seconds)
        for stage, took in found.seconds.items():
            self._stages.observe(took, {"stage": stage})

    def failed(self, error: ImageLinkError) -> None:
        """Takes note of a scan without an answer."""
        self._scans.inc(tags={"outcome": reason(error)})
