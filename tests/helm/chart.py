"""The rendered chart, by the Helm engine itself, and the pods that KubeRay makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

Document = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "imagelink"
SIZES = ("default", "small", "gpu", "large")
RELEASE, NAMESPACE = "imagelink", "recognition"
EVERYTHING: Document = {
    "image": {"pullSecrets": ["registry"]},
    "settings": {"otlp_endpoint": "http://collector.monitoring:4317", "trace_ratio": 0.1},
    "blobs": {"existingSecret": "imagelink-blobs"},
    "redis": {"address": "redis:6379", "existingSecret": "imagelink-redis"},
    "gateway": {
        "enabled": True,
        "create": True,
        "className": "envoy",
        "hostnames": ["imagelink.example.com"],
        "tlsSecret": "imagelink-tls",
    },
    "backup": {"enabled": True, "url": "s3://backups"},
    "training": {"enabled": True, "existingClaim": "training", "gpus": 1},
    "monitoring": {
        "serviceMonitor": {"enabled": True},
        "alerts": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
"""Values that switch on whatever can be."""


@dataclass(frozen=True)
class Pod:
    """A pod as it will be: its labels, its spec, and what it comes from."""

    name: str
    labels: dict[str, str]
    spec: Document

    @property
    def container(self) -> Document:
        (container,) = self.spec["containers"]
        return container


def size_values(size: str, chart: Path = CHART) -> Document:
    """The values of one of the sizes that come with the chart."""
    if size == "default":
        return {}
    return yaml.safe_load((chart / f"values-{size}.yaml").read_text())


def merged(values: Document, more: Document) -> Document:
    """Values with more of them on top, as Helm merges files."""
    both = dict(values)
    for name, value in more.items():
        old = both.get(name)
        both[name] = (
            merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return both


def render(values: Document, chart: Path = CHART) -> dict[str, str]:
    """The text of each template that renders to something, by its path in the chart."""
    with Chart.load(chart) as loaded:
        files = loaded.render(values, name=RELEASE, namespace=NAMESPACE)
    return {
        name.partition("/")[2]: text.strip() + "\n" for name, text in files.items() if text.strip()
    }


def documents(values: Document, chart: Path = CHART) -> list[Document]:
    """All manifests, without the notes."""
    return [
        document
        for name, text in render(values, chart).items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def of_kind(found: list[Document], kind: str) -> list[Document]:
    """The manifests of one kind."""
    return [document for document in found if document["kind"] == kind]


def ray_service(found: list[Document]) -> Document:
    (service,) = of_kind(found, "RayService")
    return service


def serve_config(found: list[Document]) -> Document:
    """What Ray Serve is told."""
    return yaml.safe_load(ray_service(found)["spec"]["serveConfigV2"])


def groups(found: list[Document]) -> dict[str, Document]:
    """The head and the worker groups, by name."""
    cluster = ray_service(found)["spec"]["rayClusterConfig"]
    workers = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"], **workers}


def ray_pods(found: list[Document]) -> list[Pod]:
    """A pod of each group of the cluster, with the labels that KubeRay adds."""
    return [_ray_pod(name, group) for name, group in groups(found).items()]


def pods(found: list[Document]) -> list[Pod]:
    """Every pod that the chart leads to, also of jobs."""
    return [*ray_pods(found), *_job_pods(found)]


def _ray_pod(name: str, group: Document) -> Pod:
    head = name == "head"
    added = {
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
        "ray.io/cluster": f"{RELEASE}-x7k2p",
        "ray.io/is-ray-node": "yes",
        "ray.io/node-type": "head" if head else "worker",
        "ray.io/group": "headgroup" if head else name,
        "ray.io/serve": "false" if head else "true",
    }
    labels = group["template"]["metadata"]["labels"]
    # Which of two would win depends on KubeRay's version.
    assert not added.keys() & labels.keys()
    return Pod(name, added | labels, group["template"]["spec"])


def _job_pods(found: list[Document]) -> Iterator[Pod]:
    for document in found:
        spec = document.get("spec", {})
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if document["kind"] in ("CronJob", "Job"):
            template = spec["template"]
            yield Pod(
                document["metadata"]["name"], template["metadata"]["labels"], template["spec"]
            )


def selects(selector: dict[str, str], pod: Pod) -> bool:
    """Whether a selector of labels finds a pod."""
    return selector.items() <= pod.labels.items()
