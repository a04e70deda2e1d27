"""The Serve configuration of the chart, really loaded."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from imagelink import Client, Role
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from indexing.gallery import open_pool
from indexing.gallery_placement import PlacementStore
from server.app import free_ports, ray_environment
from server.auth import OPERATOR_ID, new_key
from tests.conftest import Postgres
from tests.e2e.pictures import artworks, encoded, photo_of, strangers
from tests.helm.chart import documents, groups, ray_pods, serve_config
from tests.helm.test_chart_monitoring import used_metrics

# How often metrics are passed on, instead of every ten seconds.
OFTEN = {
    "RAY_metrics_report_interval_ms": "1000",
    "RAY_SERVE_HAPROXY_METRICS_REPORT_INTERVAL_S": "1",
}
METRICS_SECONDS = 60
STOP_SECONDS = 180
SECRETS = {"IMAGELINK_DATABASE_URL", "IMAGELINK_OPERATOR_KEY"}
ADDED_SHARD = "shard-1"


@dataclass
class Served:
    """A local Ray with the applications of the chart."""

    target: str
    health: str
    operator_key: str
    applications: dict[str, str]
    metrics_url: str


@pytest.fixture(scope="module")
def served(postgres: Postgres) -> Iterator[Served]:
    directory = Path(tempfile.mkdtemp(prefix="chart-"))
    try:
        with _served(directory, postgres.create_database()) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _served(directory: Path, database_url: str) -> Iterator[Served]:
    grpc_port, http_port = free_ports(2)
    rendered = documents(
        {
            "settings": {
                "blob_url": f"file://{directory}/blobs",
                "grpc_port": grpc_port,
                "http_port": http_port,
                "scanners": 1,
                "shard_replicas": 1,
            },
            "blobs": {"existingClaim": "images"},
        }
    )
    secrets = {
        "IMAGELINK_DATABASE_URL": database_url,
        "IMAGELINK_OPERATOR_KEY": new_key(OPERATOR_ID).text,
    }
    _prepare(rendered, secrets, directory)
    asyncio.run(_add_shard(database_url))
    config = directory / "serve.yaml"
    config.write_text(yaml.safe_dump(serve_config(rendered)).replace("/data", f"{directory}/data"))
    apart = ray_environment(directory)
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("serve_locally.py"), config, _cluster(rendered)],
        env=os.environ | apart | _pod_environment(rendered) | secrets | OFTEN,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(directory / "log").open("w"),
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        lines = (line.partition(" ") for line in process.stdout)
        told = next((json.loads(text) for word, _, text in lines if word == "RUNNING"), None)
        assert told is not None, (directory / "log").read_text()[-4000:]
        yield Served(
            f"127.0.0.1:{grpc_port}",
            f"http://127.0.0.1:{http_port}/-/healthz",
            secrets["IMAGELINK_OPERATOR_KEY"],
            told["applications"],
            told["metrics"],
        )
    finally:
        process.stdin.close()
        process.wait(STOP_SECONDS)


def _prepare(rendered: list[dict], secrets: dict[str, str], directory: Path) -> None:
    """Runs the container of the job that prepares the database."""
    (job,) = (document for document in rendered if document["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    given["IMAGELINK_DATA_DIR"] = str(directory / "data")
    command = [sys.executable, *container["command"][1:]]
    subprocess.run(command, env=os.environ | given | secrets, check=True, timeout=60)


async def _add_shard(database_url: str) -> None:
    """Has a shard that the configuration has not, as after ``imagelink shard add``."""
    pool = await open_pool(database_url, 1)
    await PlacementStore(pool).open_shards(2)
    await pool.close()


def _pod_environment(rendered: list[dict]) -> dict[str, str]:
    """The environment that all pods of the cluster have alike, but for the secrets."""
    head, *workers = (
        [each for each in pod.container["env"] if each["name"] not in SECRETS | {"HOME"}]
        for pod in ray_pods(rendered)
    )
    assert all(worker == head for worker in workers)
    return {each["name"]: each["value"] for each in head}


def _cluster(rendered: list[dict]) -> str:
    """What the fewest pods together offer Ray, and a shard's more for the one that was added."""
    cpus, resources = 1, {}
    for group in groups(rendered).values():
        pods, start = group.get("minReplicas", 1), group["rayStartParams"]
        cpus += pods * int(start["num-cpus"])
        for name, amount in json.loads(start.get("resources", "'{}'").strip("'")).items():
            resources[name] = resources.get(name, 0) + pods * amount
    return json.dumps({"num_cpus": cpus, "resources": resources})


def test_all_applications_run_also_those_of_added_shards(served: Served) -> None:
    assert served.applications == dict.fromkeys(("imagelink", "shard-0", ADDED_SHARD), "RUNNING")


def test_health_is_what_kuberay_looks_for(served: Served) -> None:
    with urllib.request.urlopen(served.health, timeout=10) as answer:
        assert answer.read() == b"success"


def test_the_readiness_probe_is_answered(served: Served) -> None:
    with grpc.insecure_channel(served.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_photo_is_recognised(served: Served) -> None:
    with Client(served.target, key=served.operator_key, timeout=30) as operator:
        operator.create_publisher("acme")
        _, key = operator.create_api_key("acme", role=Role.PUBLISH)
    with Client(served.target, key=key, timeout=30) as client:
        written = client.register(encoded(artworks()[0]), link="https://example.com/poster")
        found = client.scan(
            encoded(photo_of(artworks()[0]).photo), min_gallery_version=written.gallery_version
        )
        assert found.best is not None
        assert found.best.link == "https://example.com/poster"
        assert not client.scan(encoded(photo_of(strangers()[0]).photo))


def test_ray_has_the_metrics_of_alerts_and_dashboard(served: Served) -> None:
    # An agent beside each node tells of the machine, now and then not at all where Ray runs
    # locally: those metrics are checked by the names that Ray has for them.
    of_nodes = {f"ray_{name}" for name in METRICS_GAUGES}
    asked = used_metrics() - of_nodes
    missing = asked
    deadline = time.monotonic() + METRICS_SECONDS
    while missing and time.monotonic() < deadline:
        time.sleep(1)
        with urllib.request.urlopen(served.metrics_url, timeout=10) as answer:
            text = answer.read().decode()
        # Gauges are told once after each report of theirs, not at every look.
        missing = {name for name in missing if f"\n{name}{{" not in text}
    assert not missing
    assert 'method="/imagelink.v1.Recognition/Scan"' in text
