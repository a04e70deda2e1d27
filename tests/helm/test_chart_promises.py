"""What the chart promises, for each size it comes with and with everything switched on."""

import json
import re
import shutil
from pathlib import Path

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)

from server.app import ray_environment
from tests.helm import promises
from tests.helm.chart import (
    CHART,
    EVERYTHING,
    NAMESPACE,
    SIZES,
    Document,
    documents,
    groups,
    merged,
    of_kind,
    pods,
    ray_pods,
    ray_service,
    render,
    serve_config,
    size_values,
)
from tests.helm.promises import Promise

CASES = {size: size_values(size) for size in SIZES} | {"everything": EVERYTHING}


@pytest.fixture(scope="module", params=CASES)
def found(request: pytest.FixtureRequest) -> list[Document]:
    return documents(CASES[request.param])


@pytest.mark.parametrize("promise", promises.PROMISES, ids=lambda promise: promise.__name__)
def test_promise(found: list[Document], promise: Promise) -> None:
    promise(found)


MUTATIONS = {
    "no liveness probe": (
        "templates/_ray_pod.tpl",
        r"      livenessProbe:\n(        .*\n)+",
        "",
        promises.ray_is_probed,
    ),
    "readiness by Ray instead of the API": (
        "templates/_ray_pod.tpl",
        r'eq .component "scanner"',
        "false",
        promises.ray_is_probed,
    ),
    "no budget for shards": (
        "templates/poddisruptionbudget.yaml",
        r'"shard" \(sub \$shards 1\)',
        "",
        promises.budgets_keep_all_but_one,
    ),
    "a budget in percent of nothing": (
        "templates/poddisruptionbudget.yaml",
        r"minAvailable: .*",
        "maxUnavailable: 1",
        promises.budgets_keep_all_but_one,
    ),
    "a root file system that can be written": (
        "templates/_helpers.tpl",
        r"readOnlyRootFilesystem: true\n",
        "",
        promises.containers_are_confined,
    ),
    "a service that selects nobody": (
        "templates/services.yaml",
        r'"component" "scanner"',
        '"component" "scaner"',
        promises.services_find_their_pods,
    ),
    "the database's URL as a setting": (
        "templates/_serve_config.tpl",
        r"data_dir: /data",
        "data_dir: /data\ndatabase_url: postgresql://u:p@db/imagelink",
        promises.no_secret_is_written,
    ),
    "receipts beside other backups": (
        "templates/backup.yaml",
        r'\(list "erasures" \.url\)',
        '(list "erasures" "s3://elsewhere")',
        promises.backups_come_with_their_erasures,
    ),
    "a backup that may call the API": (
        "templates/backup.yaml",
        r"ne \.name \"IMAGELINK_OPERATOR_KEY\"",
        "true",
        promises.backups_come_with_their_erasures,
    ),
    "a policy that holds traces back": (
        "templates/networkpolicy.yaml",
        r"\$\.Values\.settings\.otlp_endpoint",
        '""',
        promises.traces_may_leave,
    ),
    "scanners without room for the worker of a rollout": (
        "values.yaml",
        r"(scanner:(\n  .*)+limits: .*)4Gi",
        r"\g<1>3Gi",
        promises.pods_have_room_for_models,
    ),
    "models that take what galleries need": (
        "values.yaml",
        r"model_memory_mb: 1000",
        "model_memory_mb: 4000",
        promises.pods_have_room_for_models,
    ),
    "no room for two models": (
        "values.yaml",
        r"model_memory_mb: 1000",
        "model_memory_mb: 200",
        promises.pods_have_room_for_models,
    ),
    "scanners that take the CPUs of shards": (
        "templates/rayservice.yaml",
        r'num-cpus: "0"',
        'num-cpus: "8"',
        promises.every_replica_finds_room,
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_chart_is_caught(mutation: str, tmp_path: Path) -> None:
    name, pattern, replacement, promise = MUTATIONS[mutation]
    chart = shutil.copytree(CHART, tmp_path / "imagelink")
    text, count = re.subn(pattern, replacement, (chart / name).read_text())
    assert count, "The mutation no longer changes anything."
    (chart / name).write_text(text)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        promise(documents(EVERYTHING, chart))


def test_rays_autoscaler_reads_the_groups_as_they_are_meant() -> None:
    cluster = ray_service(documents(size_values("gpu")))["spec"]["rayClusterConfig"]
    read = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "imagelink", "namespace": NAMESPACE}, "spec": cluster}
    )["available_node_types"]
    offered = {name: node["resources"] for name, node in read.items()}
    assert offered["headgroup"]["CPU"] == 0
    assert offered["scanner"]["CPU"] == 0
    assert offered["scanner"]["GPU"] == 1
    assert offered["scanner"]["scanner"] == 8
    assert offered["shard"]["CPU"] == 1
    assert "scanner" not in offered["shard"]
    assert (read["scanner"]["min_workers"], read["scanner"]["max_workers"]) == (1, 4)


def test_ray_has_the_switches_of_the_server_on_one_machine(tmp_path: Path) -> None:
    alone = ray_environment(tmp_path)
    # Of one machine: ports and files that several servers do not share, and a short end.
    apart = re.compile("PORT|_LOC$|_PATH$|_BASE$|_FILE$|DRAINING")
    for pod in ray_pods(documents({})):
        given = {
            e["name"]: e["value"] for e in pod.container["env"] if e["name"].startswith("RAY_")
        }
        assert given == {name: value for name, value in alone.items() if not apart.search(name)}


def test_names_are_as_short_as_kuberay_asks() -> None:
    found = documents({"nameOverride": "a-name-of-fifty-characters-which-somebody-came-up-w"})
    assert len(ray_service(found)["metadata"]["name"]) <= 41
    assert all(len(document["metadata"]["name"]) <= 63 for document in found)
    promises.services_find_their_pods(found)


def test_large_numbers_stay_whole() -> None:
    found = documents({"settings": {"part_images": 2_000_000, "gallery_memory_mb": 1_000_000}})
    promises.the_job_has_the_settings_of_the_server(found)
    assert all(
        "e+" not in str(each.get("value"))
        for pod in pods(found)
        for each in pod.container.get("env", [])
    )
    assert serve_config(found)["applications"][0]["args"]["part_images"] == 2_000_000


def test_a_cluster_with_redis_outlives_its_head() -> None:
    cluster = ray_service(documents(EVERYTHING))["spec"]["rayClusterConfig"]
    assert cluster["gcsFaultToleranceOptions"] == {
        "redisAddress": "redis:6379",
        "redisPassword": {
            "valueFrom": {"secretKeyRef": {"name": "imagelink-redis", "key": "password"}}
        },
    }


def test_the_route_leads_from_tls_to_the_api() -> None:
    found = documents(EVERYTHING)
    (gateway,), (route,) = of_kind(found, "Gateway"), of_kind(found, "GRPCRoute")
    (listener,) = gateway["spec"]["listeners"]
    assert listener["protocol"] == "HTTPS"
    assert listener["tls"]["certificateRefs"] == [{"kind": "Secret", "name": "imagelink-tls"}]
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    assert route["spec"]["hostnames"] == [listener["hostname"]]
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    (service,) = (s for s in of_kind(found, "Service") if s["metadata"]["name"] == backend["name"])
    assert service["spec"]["ports"][0]["port"] == backend["port"]


@pytest.mark.parametrize(("schedule", "kind"), [("", "Job"), ("0 3 * * 0", "CronJob")])
def test_a_training_runs_once_or_by_the_clock(schedule: str, kind: str) -> None:
    found = documents(merged(EVERYTHING, {"training": {"schedule": schedule}}))
    (training,) = (d for d in of_kind(found, kind) if "-training" in d["metadata"]["name"])
    (pod,) = (pod for pod in pods(found) if pod.name == training["metadata"]["name"])
    assert pod.container["command"] == ["python", "-m", "training"]
    assert pod.container["args"][0] == "train"
    assert {"name": "training", "mountPath": "/training"} in pod.container["volumeMounts"]
    # It needs neither, so it has neither.
    assert not any("IMAGELINK" in each["name"] for each in pod.container["env"])
    assert "envFrom" not in pod.container


def test_a_trial_has_a_database_of_its_own() -> None:
    found = documents(size_values("small"))
    (cluster,) = of_kind(found, "Cluster")
    for pod in (pod for pod in pods(found) if pod.name in groups(found)):
        (url,) = (e for e in pod.container["env"] if e["name"] == "IMAGELINK_DATABASE_URL")
        reference = url["valueFrom"]["secretKeyRef"]
        assert reference == {"name": f"{cluster['metadata']['name']}-app", "key": "uri"}


def test_images_on_a_claim_are_mounted_where_the_settings_say() -> None:
    found = documents(size_values("small"))
    assert serve_config(found)["applications"][0]["args"]["blob_url"] == "file:///blobs"
    for pod in pods(found):
        assert {"name": "blobs", "mountPath": "/blobs"} in pod.container["volumeMounts"]


def test_the_notes_say_the_next_three_commands() -> None:
    notes = render({})["templates/NOTES.txt"]
    assert re.findall(r"^(\d)\. ", notes, re.MULTILINE) == ["1", "2", "3"]
    assert f"kubectl --namespace {NAMESPACE} wait rayservice/imagelink" in notes
    assert "imagelink publisher create acme" in notes
    assert "Without redis.address" in notes
    assert "Without redis.address" not in render(EVERYTHING)["templates/NOTES.txt"]


def test_the_dashboard_is_whole() -> None:
    (found,) = of_kind(documents(EVERYTHING), "ConfigMap")
    assert found["data"]["imagelink.json"] == (CHART / "dashboards/imagelink.json").read_text()
    assert json.loads(found["data"]["imagelink.json"])["title"] == "ImageLink"


def test_backups_go_to_a_claim_or_a_store_by_the_clock() -> None:
    values = {"backup": {"url": "file:///backup/here", "existingClaim": "backups", "keep": 3}}
    found = documents(merged(EVERYTHING, values))
    backup, erasures = (
        job
        for name in ("-backup", "-erasures")
        for job in of_kind(found, "CronJob")
        if job["metadata"]["name"].endswith(name)
    )
    (pod,) = (pod for pod in pods(found) if pod.name == backup["metadata"]["name"])
    assert pod.container["args"] == ["backup", "file:///backup/here", "--keep", "3"]
    assert {"name": "backup", "mountPath": "/backup"} in pod.container["volumeMounts"]
    assert backup["spec"]["schedule"] == "17 2 * * *"
    assert erasures["spec"]["schedule"] == "*/15 * * * *"
    assert not of_kind(documents({}), "CronJob")
