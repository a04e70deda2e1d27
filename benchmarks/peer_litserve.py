"""``python -m benchmarks.peer_litserve PORT SETTINGS``: the pipeline of a peer behind LitServe."""

import sys

import litserve
from fastapi import Request
from pydantic import TypeAdapter

from benchmarks.peer_pipeline import BATCH, BATCH_SECONDS, WORKERS, PeerPipeline, PeerSettings


class PeerApi(litserve.LitAPI):  # type: ignore[misc]
    """Photos in, ids out, in batches."""

    def __init__(self, settings: PeerSettings) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS)
        self._settings = settings

    def setup(self, device: str) -> None:
        """Loads the network in each worker."""
        self._pipeline = PeerPipeline(self._settings)

    async def decode_request(self, request: Request) -> bytes:
        """The photo as a file."""
        return await request.body()

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Photos as they are: they differ in size."""
        return inputs

    def predict(self, photos: list[bytes]) -> list[list[str]]:
        """The ids of what is in each photo."""
        return self._pipeline.scan(photos)

    def unbatch(self, output: list[list[str]]) -> list[list[str]]:
        """One answer for each photo."""
        return output

    def encode_response(self, output: list[str]) -> list[str]:
        """A JSON array."""
        return output


def main(port: int, settings: PeerSettings) -> None:
    """Serves until it is killed."""
    server = litserve.LitServer(PeerApi(settings), accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), TypeAdapter(PeerSettings).validate_json(sys.argv[2]))
