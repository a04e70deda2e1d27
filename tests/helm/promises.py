"""What the chart promises of its manifests: each a function that fails where it is broken."""

import json
import re
from collections.abc import Callable
from typing import Any

import yaml

from indexing.bundle import DEFAULT_BUNDLE
from server.deployments import SERVICERS
from server.models import model_memory_mb
from tests.helm.chart import (
    RELEASE,
    Document,
    groups,
    of_kind,
    pods,
    ray_pods,
    ray_service,
    selects,
    serve_config,
)

WRITABLE = {"emptyDir", "ephemeral", "persistentVolumeClaim"}
# What docs/operations.md reckons with: Ray in each pod, and its head besides; a shard without galleries; a
# scanner or a worker without models, and the worker's greater batches.
RAY_MB, HEAD_MB, SHARD_MB, PROCESS_MB, WORKER_BATCHES_MB = 700, 500, 300, 500, 100
SECRET_WORDS = re.compile(r"password|passwd|secret|token|(_|^)key$|database_url", re.IGNORECASE)


def ray_is_probed(found: list[Document]) -> None:
    """Ray's own health starts and keeps every pod; scanners are ready when the API answers."""
    for pod in ray_pods(found):
        for probe in ("startupProbe", "livenessProbe"):
            assert pod.container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
        ready = pod.container["readinessProbe"]
        if pod.name == "scanner":
            assert ready["grpc"]["port"] == serve_config(found)["grpc_options"]["port"]
        else:
            assert ready["httpGet"]["path"] == "/api/healthz"


def budgets_keep_all_but_one(found: list[Document]) -> None:
    """Groups of several pods lose one at a time; whole numbers, as pods of custom resources need."""
    budgets = of_kind(found, "PodDisruptionBudget")
    if not budgets:
        assert groups(found)["scanner"]["minReplicas"] == groups(found)["shard"]["minReplicas"] == 1
        return
    for name in ("scanner", "shard"):
        least = groups(found)[name]["minReplicas"]
        (pod,) = (pod for pod in ray_pods(found) if pod.name == name)
        kept = [
            budget["spec"]["minAvailable"]
            for budget in budgets
            if selects(budget["spec"]["selector"]["matchLabels"], pod)
        ]
        assert kept == ([least - 1] if least > 1 else [])
    cluster = ray_service(found)["spec"]["rayClusterConfig"]
    survives = "gcsFaultToleranceOptions" in cluster
    assert len([b for b in budgets if b["metadata"]["name"].endswith("-head")]) == (not survives)


def containers_are_confined(found: list[Document]) -> None:
    """Nobody is root, writes into the image, or gains a right; what is written has a volume."""
    for pod in pods(found):
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        mounts = {each["mountPath"]: each["name"] for each in pod.container["volumeMounts"]}
        assert {"/tmp", "/data"} <= mounts.keys()
        assert set(mounts.values()) <= volumes.keys()
        assert all(WRITABLE & volume.keys() for volume in volumes.values())
        assert pod.spec["automountServiceAccountToken"] is (pod.name == "head")


def pods_have_requests_and_limits(found: list[Document]) -> None:
    for pod in pods(found):
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= pod.container["resources"][kind].keys()


def pods_have_room_for_models(found: list[Document]) -> None:
    """Each process of a pod has its models, those of two versions at least.

    The worker of a rollout may run in any pod: beside the scanners, or beside a shard.
    """
    settings = serve_config(found)["applications"][0]["args"]
    models = settings["model_memory_mb"]
    default = sum(file.stat().st_size for file in DEFAULT_BUNDLE.iterdir())
    assert models >= 2 * model_memory_mb(default)
    worker = PROCESS_MB + models + WORKER_BATCHES_MB
    per_pod = _custom_resources(groups(found)["scanner"])["scanner"]
    beside = {
        "head": HEAD_MB,
        "scanner": per_pod * (PROCESS_MB + models),
        "shard": SHARD_MB + settings["gallery_memory_mb"],
    }
    for pod in ray_pods(found):
        memory = pod.container["resources"]["limits"]["memory"]
        assert RAY_MB + beside[pod.name] + worker <= _megabytes(memory), pod.name


def pods_spread(found: list[Document]) -> None:
    """Pods of a group go to different nodes and zones where they can."""
    for pod in ray_pods(found):
        spread = pod.spec["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        assert all(selects(each["labelSelector"]["matchLabels"], pod) for each in spread)


def pods_drain_before_they_end(found: list[Document]) -> None:
    for pod in ray_pods(found):
        command = pod.container["lifecycle"]["preStop"]["exec"]["command"][-1]
        wait, stop = map(int, re.findall(r"\d+", command))
        assert wait + stop < pod.spec["terminationGracePeriodSeconds"]


def services_find_their_pods(found: list[Document]) -> None:
    """Each service selects pods, and all of those have its port."""
    selected: dict[str, set[str]] = {}
    for service in of_kind(found, "Service"):
        spec, name = service["spec"], service["metadata"]["name"]
        chosen = [pod for pod in pods(found) if selects(spec["selector"], pod)]
        selected[name.rpartition("-")[2]] = {pod.name for pod in chosen}
        for pod in chosen:
            ports = {port["name"]: port["containerPort"] for port in pod.container["ports"]}
            for port in spec["ports"]:
                assert ports[port["targetPort"]] == port["port"]
    assert selected == {"grpc": {"scanner"}, "metrics": {"head", "scanner", "shard"}}


def grpc_is_balanced_by_clients(found: list[Document]) -> None:
    (service,) = (s for s in of_kind(found, "Service") if s["metadata"]["name"].endswith("-grpc"))
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"


def head_names_the_ports_of_kuberays_service(found: list[Document]) -> None:
    """KubeRay makes its service from the head's ports ``serve`` and ``serve-*``."""
    config = serve_config(found)
    head = ray_pods(found)[0]
    ports = {port["name"]: port["containerPort"] for port in head.container["ports"]}
    assert ports["serve"] == config["http_options"]["port"]
    assert ports["serve-grpc"] == config["grpc_options"]["port"]
    assert ray_service(found)["spec"]["excludeHeadPodFromServeSvc"] is True


def no_secret_is_written(found: list[Document]) -> None:
    """What is named like a secret is a reference, in every environment; no Secret is made."""
    assert not of_kind(found, "Secret")
    for pod in pods(found):
        for each in pod.container["env"]:
            assert "value" not in each or not SECRET_WORDS.search(each["name"])
    for application in serve_config(found)["applications"]:
        assert not any(SECRET_WORDS.search(name) for name in application["args"])
    redis = ray_service(found)["spec"]["rayClusterConfig"].get("gcsFaultToleranceOptions", {})
    assert "value" not in redis.get("redisPassword", {})


def all_ray_pods_have_the_secrets(found: list[Document]) -> None:
    """Any node may build an application, and any shard opens the database."""
    for pod in ray_pods(found):
        given = {each["name"]: each for each in pod.container["env"]}
        for name in ("IMAGELINK_DATABASE_URL", "IMAGELINK_OPERATOR_KEY"):
            assert given[name]["valueFrom"]["secretKeyRef"]["name"]


def serve_serves_all_services(found: list[Document]) -> None:
    assert serve_config(found)["grpc_options"]["grpc_servicer_functions"] == SERVICERS


def every_replica_finds_room(found: list[Document]) -> None:
    """The fewest pods have room for the fewest replicas, and the most for the most."""
    applications = serve_config(found)["applications"]
    scanner, *shards = applications
    scaling = scanner["deployments"][0]["autoscaling_config"]
    for pod_count, replicas in (
        ("minReplicas", scaling["min_replicas"]),
        ("maxReplicas", scaling["max_replicas"]),
    ):
        group = groups(found)["scanner"]
        per_pod = _custom_resources(group)["scanner"]
        assert (group[pod_count] - 1) * per_pod < replicas <= group[pod_count] * per_pod
    shard_replicas = sum(each["args"].get("shard_replicas", 1) for each in shards)
    assert groups(found)["shard"]["minReplicas"] == shard_replicas
    assert groups(found)["shard"]["rayStartParams"]["num-cpus"] == "1"
    # Were there CPUs for Ray elsewhere, added shards would run beside scanners, or on the head.
    assert groups(found)["scanner"]["rayStartParams"]["num-cpus"] == "0"
    assert groups(found)["head"]["rayStartParams"]["num-cpus"] == "0"


def gpus_are_shared_out(found: list[Document]) -> None:
    options = serve_config(found)["applications"][0]["deployments"][0]["ray_actor_options"]
    group = groups(found)["scanner"]
    (pod,) = (pod for pod in ray_pods(found) if pod.name == "scanner")
    gpus = pod.container["resources"]["limits"].get("nvidia.com/gpu", 0)
    per_pod = _custom_resources(group)["scanner"]
    assert (
        options.get("num_gpus", 0) * per_pod
        == gpus
        == int(group["rayStartParams"].get("num-gpus", 0))
    )


def kuberay_scales_and_asks_for_a_token(found: list[Document]) -> None:
    cluster = ray_service(found)["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    # The second version of the autoscaler takes no pod that restarts itself.
    assert all("restartPolicy" not in pod.spec for pod in ray_pods(found))
    assert ray_service(found)["spec"]["upgradeStrategy"] == {"type": "NewCluster"}


def the_database_is_prepared_before_an_upgrade(found: list[Document]) -> None:
    (job,) = (j for j in of_kind(found, "Job") if j["metadata"]["name"].endswith("-prepare"))
    hooks = job["metadata"]["annotations"]["helm.sh/hook"].split(",")
    assert "pre-upgrade" in hooks
    assert ("post-install" in hooks) == bool(of_kind(found, "Cluster"))
    (pod,) = (pod for pod in pods(found) if pod.name == job["metadata"]["name"])
    assert pod.container["command"] == ["python", "-m", "server.cluster"]
    account = pod.spec["serviceAccountName"]
    (made,) = (a for a in of_kind(found, "ServiceAccount") if a["metadata"]["name"] == account)
    assert made["metadata"]["annotations"]["helm.sh/hook"] == ",".join(hooks)
    weight = int(made["metadata"]["annotations"]["helm.sh/hook-weight"])
    assert weight < int(job["metadata"]["annotations"].get("helm.sh/hook-weight", "0"))


def the_job_has_the_settings_of_the_server(found: list[Document]) -> None:
    (pod,) = (pod for pod in pods(found) if pod.name.endswith("-prepare"))
    prefix = "IMAGELINK_"
    given = {
        each["name"].removeprefix(prefix).lower(): yaml.safe_load(each["value"])
        for each in pod.container["env"]
        if each["name"].startswith(prefix) and "value" in each
    }
    assert all(each["args"] == given for each in serve_config(found)["applications"])


def backups_come_with_their_erasures(found: list[Document]) -> None:
    """The receipts lie beside the backups, are written more often, and no job may call the API."""
    jobs = [
        (job, pod)
        for name in ("-backup", "-erasures")
        for job in of_kind(found, "CronJob")
        for pod in pods(found)
        if job["metadata"]["name"].endswith(name) and pod.name == job["metadata"]["name"]
    ]
    assert len(jobs) in (0, 2)
    for (job, pod), word in zip(jobs, ("backup", "erasures"), strict=bool(jobs)):
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        # Kubernetes' limit for the name of a CronJob; KubeRay has the release's name at 41.
        assert len(job["metadata"]["name"].removeprefix(RELEASE)) <= 52 - 41
        assert pod.container["command"] == ["python", "-m", "server"]
        assert pod.container["args"][0] == word
        given = {each["name"] for each in pod.container["env"]}
        assert given == {"HOME", "IMAGELINK_DATABASE_URL", "IMAGELINK_BLOB_URL"}
    assert len({pod.container["args"][1] for _, pod in jobs}) <= 1


def service_accounts_exist(found: list[Document]) -> None:
    accounts = {account["metadata"]["name"] for account in of_kind(found, "ServiceAccount")}
    assert {pod.spec["serviceAccountName"] for pod in pods(found)} == accounts


def only_the_api_is_open(found: list[Document]) -> None:
    """The policy holds for all pods, and strangers reach the API's port alone."""
    (policy,) = of_kind(found, "NetworkPolicy")
    assert all(selects(policy["spec"]["podSelector"]["matchLabels"], pod) for pod in pods(found))
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    open_to_all = [rule for rule in policy["spec"]["ingress"] if not rule.get("from")]
    ports = [port["port"] for rule in open_to_all for port in rule["ports"]]
    assert ports == [serve_config(found)["grpc_options"]["port"]]


def traces_may_leave(found: list[Document]) -> None:
    """Scanners and shards know who takes traces, and the policy lets them there."""
    (policy,) = of_kind(found, "NetworkPolicy")
    out = [port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])]
    (endpoint,) = {a["args"].get("otlp_endpoint") for a in serve_config(found)["applications"]}
    assert endpoint is None or int(endpoint.rpartition(":")[2]) in out


Promise = Callable[[list[Document]], None]
PROMISES: tuple[Promise, ...] = (
    ray_is_probed,
    budgets_keep_all_but_one,
    containers_are_confined,
    pods_have_requests_and_limits,
    pods_have_room_for_models,
    pods_spread,
    pods_drain_before_they_end,
    services_find_their_pods,
    grpc_is_balanced_by_clients,
    head_names_the_ports_of_kuberays_service,
    no_secret_is_written,
    all_ray_pods_have_the_secrets,
    serve_serves_all_services,
    every_replica_finds_room,
    gpus_are_shared_out,
    kuberay_scales_and_asks_for_a_token,
    the_database_is_prepared_before_an_upgrade,
    the_job_has_the_settings_of_the_server,
    backups_come_with_their_erasures,
    service_accounts_exist,
    only_the_api_is_open,
    traces_may_leave,
)


def _megabytes(memory: str) -> float:
    return int(memory.removesuffix("Gi")) * 2**30 / 1e6


def _custom_resources(group: Document) -> dict[str, Any]:
    return json.loads(group["rayStartParams"]["resources"].strip("'"))
