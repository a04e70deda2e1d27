"""Loads a Serve configuration into a Ray of this machine, as KubeRay has the cluster do.

``python serve_locally.py CONFIG CLUSTER`` with the JSON of Ray's resources; says RUNNING when all
applications run, and ends when its input does.
"""

import json
import sys
import time
from pathlib import Path

import ray
import yaml
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.config import gRPCOptions
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

START_SECONDS = 150


def main(config: Path, cluster: str) -> None:
    ray.init(
        address="local",
        **json.loads(cluster),
        object_store_memory=128 * 1024 * 1024,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        _deploy(ServeDeploySchema.model_validate(yaml.safe_load(config.read_text())))
        _wait_until_all_run()
        (node,) = ray.nodes()
        metrics = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        print("RUNNING", json.dumps({"applications": _statuses(), "metrics": metrics}), flush=True)
        sys.stdin.read()
    finally:
        serve.shutdown()
        ray.shutdown()


def _deploy(config: ServeDeploySchema) -> None:
    """What the PUT of KubeRay's operator does in the dashboard."""
    client = serve_start(
        http_options=config.http_options.model_dump(),
        grpc_options=gRPCOptions(**config.grpc_options.model_dump()),
        proxy_location=config.proxy_location,
    )
    client.deploy_apps(config, _blocking=False)


def _statuses() -> dict[str, str]:
    return {name: found.status for name, found in serve.status().applications.items()}


def _wait_until_all_run() -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _statuses() or set(_statuses().values()) != {ApplicationStatus.RUNNING}:
        if time.monotonic() > deadline or ApplicationStatus.DEPLOY_FAILED in _statuses().values():
            sys.exit(f"does not run: {serve.status()}")
        time.sleep(0.3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
