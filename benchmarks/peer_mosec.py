"""``python -m benchmarks.peer_mosec PORT SETTINGS``: the pipeline of a peer behind mosec."""

import json
import os
import sys

import mosec
from pydantic import TypeAdapter

from benchmarks.peer_pipeline import BATCH, BATCH_SECONDS, WORKERS, PeerPipeline, PeerSettings

SETTINGS = "IMAGELINK_PEER"


class PeerWorker(mosec.Worker):  # type: ignore[misc]
    """Photos in, ids out, in batches."""

    def __init__(self) -> None:
        super().__init__()
        settings = TypeAdapter(PeerSettings).validate_json(os.environ[SETTINGS])
        self._pipeline = PeerPipeline(settings)

    def deserialize(self, data: bytes) -> bytes:
        """The photo as a file."""
        return data

    def serialize(self, data: list[str]) -> bytes:
        """A JSON array."""
        return json.dumps(data).encode()

    def forward(self, data: list[bytes]) -> list[list[str]]:
        """The ids of what is in each photo."""
        return self._pipeline.scan(data)


def main(port: str, settings: str) -> None:
    """Serves until it is killed."""
    os.environ[SETTINGS] = settings
    # It takes its own arguments from the command line.
    sys.argv[1:] = ["--port", port, "--address", "127.0.0.1", "--log-level", "error"]
    server = mosec.Server()
    server.append_worker(
        PeerWorker, num=WORKERS, max_batch_size=BATCH, max_wait_time=int(1000 * BATCH_SECONDS)
    )
    server.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
