"""A scanner that looks at no photo: what is left is the platform's own work."""

from collections.abc import Sequence

from indexing.decision import NoMatch
from indexing.recognition import Photo, Recognition
from indexing.reference import Publisher
from server import deployments
from server.fair_queue import FairQueue, QueueLimits
from server.scanning import Scan
from server.settings import Backends, Settings

NOTHING = Recognition("no-op", (), NoMatch.NOTHING_SIMILAR, 0, (), (), {}, {})


class NoopScanning:
    """Answers every photo alike, through a queue as that of real scans."""

    def __init__(self, limits: QueueLimits) -> None:
        self._queue: FairQueue[Scan, Scan] = FairQueue(_unchanged, limits)

    async def scan(self, publisher: Publisher, image: bytes, min_gallery_version: int) -> Scan:
        """Finds nothing."""
        photo = Photo(publisher.id, None, publisher.false_accept_budget)  # type: ignore[arg-type]
        scan = Scan("no-op", NOTHING, {}, photo, (1, 1))
        return await self._queue.ask(publisher.id, scan, publisher.scan_weight)


class NoopScanner(deployments.Scanner.func_or_class):  # type: ignore[misc, name-defined]
    """The ingress with all of it but the recognition."""

    async def __init__(  # type: ignore[misc]
        self, settings: Settings, backends: Backends, version: str
    ) -> None:
        await super().__init__(settings, backends, version)
        self._scanning = NoopScanning(deployments.queue_limits(settings))


async def _unchanged(scans: Sequence[Scan]) -> Sequence[Scan]:
    return scans


def install() -> None:
    """Has the server that this process will start serve by it."""
    deployments.Scanner = deployments.Scanner.options(  # type: ignore[misc, attr-defined]
        func_or_class=NoopScanner
    )
