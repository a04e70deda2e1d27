"""``python -m benchmarks.peer_server``: the peers behind mosec, each under a route of its own.

It takes all its settings from the environment, mosec's own as well.
"""

import os
from pathlib import Path

import mosec

import indexing.network  # noqa: F401  (PyTorch takes seconds to import: here it does once for all.)
from benchmarks.peer_pipeline import BUNDLE, DSN, NEAREST, VERIFIED, PeerPipeline

BATCH = 8
BATCH_MILLISECONDS = 10


class Nearest(mosec.Worker):
    """Photos in, ids out, in batches."""

    verifies = False

    def __init__(self) -> None:
        super().__init__()
        self._pipeline = PeerPipeline(
            Path(os.environ[BUNDLE]), os.environ[DSN], verifies=self.verifies
        )

    def deserialize(self, data: bytes) -> tuple[str, bytes]:
        """The publisher, and the photo as a file: mosec shows its workers the body alone."""
        publisher, _, photo = data.partition(b"\n")
        return publisher.decode(), photo

    def forward(self, data: list[tuple[str, bytes]]) -> list[list[str]]:
        """The ids of what is in each photo."""
        return self._pipeline.scan(data)


class Verified(Nearest):
    """The same, verified."""

    verifies = True


def main() -> None:
    """Serves until it is terminated."""
    server = mosec.Server()
    for worker, route in ((Nearest, NEAREST), (Verified, VERIFIED)):
        server.append_worker(
            worker,
            # Each computes in one thread. Those of the other route wait, and cost nothing.
            num=len(os.sched_getaffinity(0)),
            max_batch_size=BATCH,
            max_wait_time=BATCH_MILLISECONDS,
            start_method="fork",
            route=route,
        )
    server.run()


if __name__ == "__main__":
    main()
