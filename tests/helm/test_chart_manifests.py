"""The manifests against Helm's linter, Kubernetes' schemas, KubeRay's, and what was rendered before.

After a change that is meant: ``UPDATE_GOLDEN=1 python -m pytest tests/helm/test_chart_manifests.py``,
and look at the diff.
"""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from helm_python import lint

from tests.helm.chart import (
    CHART,
    EVERYTHING,
    ROOT,
    SIZES,
    Document,
    documents,
    pods,
    ray_service,
    render,
    size_values,
)

KUBERNETES = ("1.35", "1.36", "1.37")
# Kinds of which Kubernetes has no schema, as others bring them.
CUSTOM = {"RayService", "Cluster", "Gateway", "GRPCRoute", "ServiceMonitor", "PrometheusRule"}
KUBERAY = ROOT.parent / "shared" / "k8s" / "rayservice-v1.schema.json"
GOLDEN = Path(__file__).parent / "golden"
CASES = {size: size_values(size) for size in SIZES} | {"everything": EVERYTHING}


@pytest.mark.parametrize("case", CASES)
def test_lint_finds_nothing(case: str) -> None:
    report = lint(CHART, CASES[case], strict=True)
    assert not report["errors"]
    # The icon is all that it misses.
    assert [m["error"] for m in report["messages"] if "icon" not in m["error"]] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_every_manifest(case: str, version: str) -> None:
    found = documents(CASES[case])
    for document in found:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)
    for pod in pods(found):
        as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name}}
        kubernetes_validate.validate(as_pod | {"spec": pod.spec}, version, strict=True)


@pytest.mark.skipif(
    not KUBERAY.exists(), reason=f"{KUBERAY} has KubeRay's schema, and is not here."
)
@pytest.mark.parametrize("case", CASES)
def test_kuberay_takes_the_ray_service(case: str) -> None:
    jsonschema.validate(ray_service(documents(CASES[case])), _kuberay_schema())


@pytest.mark.skipif(
    not KUBERAY.exists(), reason=f"{KUBERAY} has KubeRay's schema, and is not here."
)
@pytest.mark.parametrize("where", ["headGroupSpec", "template", "containers"])
def test_kuberays_schema_refuses_what_is_misspelt(where: str) -> None:
    service = ray_service(documents({}))
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]
    container = head["template"]["spec"]["containers"][0]
    {"headGroupSpec": head, "template": head["template"]["spec"], "containers": container}[where][
        "misspelt"
    ] = 1
    with pytest.raises(jsonschema.ValidationError, match="misspelt"):
        jsonschema.validate(service, _kuberay_schema())


@pytest.mark.parametrize("size", SIZES)
def test_rendered_as_before(size: str) -> None:
    files = sorted(render(size_values(size)).items())
    rendered = "\n".join(f"# Source: {name}\n{text}" for name, text in files)
    golden = GOLDEN / f"{size}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(rendered)
    assert rendered == golden.read_text(), "If that is meant: see the top of this file."


def _kuberay_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(KUBERAY.read_text())
    spec = schema["properties"]["spec"]
    _close(spec)
    return schema


def _close(part: Any) -> None:
    """Refuses what a schema does not name, as the API server does by dropping it."""
    if isinstance(part, list):
        for each in part:
            _close(each)
    elif isinstance(part, dict):
        if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
            part.setdefault("additionalProperties", False)
        for each in part.values():
            _close(each)


def test_every_custom_kind_is_known() -> None:
    kinds: set[str] = set()
    for values in CASES.values():
        kinds |= {document["kind"] for document in _custom(documents(values))}
    assert kinds == CUSTOM


def _custom(found: list[Document]) -> list[Document]:
    return [d for d in found if "." in d["apiVersion"] and "k8s.io" not in d["apiVersion"]] + [
        d for d in found if d["apiVersion"].startswith("gateway.")
    ]
