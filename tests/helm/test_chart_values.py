"""The values: what is refused and how, and that they are the server's own settings."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart, HelmError

from helm import generate
from server.cluster import ClusterSettings
from tests.helm.chart import CHART, SIZES, Document, documents, serve_config, size_values

# Values that are wrong, and what of the message tells a person which and why.
REFUSED: dict[str, tuple[Document, tuple[str, ...]]] = {
    "a misspelt value": ({"scaner": {}}, ("scaner", "not allowed")),
    "a misspelt setting": ({"settings": {"shard": 2}}, ("/settings", "shard", "not allowed")),
    "a secret as a setting": (
        {"settings": {"database_url": "postgresql://u:p@db/imagelink"}},
        ("/settings", "database_url", "not allowed"),
    ),
    "no shards": ({"settings": {"shards": 0}}, ("/settings/shards", "exclusiveMinimum")),
    "text for a number": ({"settings": {"scanners": "two"}}, ("/settings/scanners", "integer")),
    "an unknown store": (
        {"settings": {"blob_url": "ftp://images"}},
        ("/settings/blob_url", "ftp://images", "pattern"),
    ),
    "no secret": ({"database": {"existingSecret": ""}}, ("/database/existingSecret", "pattern")),
    "half a scanner": ({"scanner": {"perPod": 0}}, ("/scanner/perPod", "minimum")),
    "resources without memory": (
        {"head": {"resources": {"requests": {"cpu": "1", "memory": None}}}},
        ("/head/resources/requests", "memory"),
    ),
    "half a schedule": ({"backup": {"schedule": "17 2"}}, ("/backup/schedule", "pattern")),
    "no backup to keep": ({"backup": {"keep": 0}}, ("/backup/keep", "minimum")),
    "a digest that is none": ({"image": {"digest": "latest"}}, ("/image/digest", "pattern")),
}
# What takes more than one value to be wrong.
REFUSED_TOGETHER: dict[str, tuple[Document, str]] = {
    "fewer at most than at least": (
        {"settings": {"scanners": 9}},
        "scanner.maxReplicas (8) is below settings.scanners (9)",
    ),
    "a folder that is nowhere": (
        {"settings": {"blob_url": "file:///blobs"}},
        "name a ReadWriteMany claim in blobs.existingClaim",
    ),
    "a claim that is mounted nowhere": (
        {"blobs": {"existingClaim": "images"}},
        "settings.blob_url names no folder to mount it at",
    ),
    "a route from nowhere": ({"gateway": {"enabled": True}}, "needs gateway.hostnames"),
    "a gateway without TLS": (
        {"gateway": {"enabled": True, "create": True, "hostnames": ["a.example"]}},
        "never offered without TLS",
    ),
    "backups to nowhere": ({"backup": {"enabled": True}}, "backup.enabled needs backup.url"),
    "backups to a folder that is nowhere": (
        {"backup": {"enabled": True, "url": "file:///backup"}},
        "backup.existingClaim, the claim that is mounted there",
    ),
    "a claim that gets no backup": (
        {"backup": {"enabled": True, "url": "s3://backups", "existingClaim": "backups"}},
        "need each other",
    ),
    "a training without pictures": (
        {"training": {"enabled": True}},
        "training.enabled needs training.existingClaim",
    ),
}
# Rules of the schema, and what is refused by nothing else.
RULES = {
    ("additionalProperties",): "a misspelt value",
    ("properties", "settings", "additionalProperties"): "a misspelt setting",
    ("properties", "settings", "properties", "shards", "exclusiveMinimum"): "no shards",
    ("properties", "settings", "properties", "blob_url", "pattern"): "an unknown store",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_refused_and_named(case: str) -> None:
    values, said = REFUSED[case]
    with pytest.raises(HelmError) as caught:
        documents(values)
    assert all(word in str(caught.value) for word in said), caught.value


@pytest.mark.parametrize("case", REFUSED_TOGETHER)
def test_values_that_do_not_go_together_are_refused(case: str) -> None:
    values, said = REFUSED_TOGETHER[case]
    with pytest.raises(HelmError) as caught:
        documents(values)
    assert said in str(caught.value)


@pytest.mark.parametrize("rule", RULES, ids=".".join)
def test_without_its_rule_a_wrong_value_is_not_refused(
    rule: tuple[str, ...], tmp_path: Path
) -> None:
    chart = shutil.copytree(CHART, tmp_path / "imagelink")
    schema = json.loads((chart / "values.schema.json").read_text())
    part: dict[str, Any] = schema
    for name in rule[:-1]:
        part = part[name]
    del part[rule[-1]]
    (chart / "values.schema.json").write_text(json.dumps(schema))
    values, _ = REFUSED[RULES[rule]]
    with Chart.load(chart) as loaded:
        loaded.validate_schema(values)


def test_settings_are_those_of_the_server() -> None:
    schema = json.loads(generate.SCHEMA.read_text())
    assert schema == generate.schema(), "Run: python helm/generate.py"


def test_the_readme_has_every_value() -> None:
    assert generate.README.read_text() == generate.readme(), "Run: python helm/generate.py"


def test_every_value_is_described_and_nothing_else_is_allowed() -> None:
    def check(part: dict[str, Any], path: str) -> None:
        if "properties" in part:
            assert part["additionalProperties"] is False, path
            for name, each in part["properties"].items():
                check(each, f"{path}.{name}")
        else:
            assert part["description"], path

    check(json.loads(generate.SCHEMA.read_text()), "")


def test_every_default_is_in_the_schema() -> None:
    def check(values: Document, part: dict[str, Any]) -> None:
        assert values.keys() <= part["properties"].keys()
        for name, value in values.items():
            if "properties" in part["properties"][name]:
                check(value, part["properties"][name])

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    check(values, json.loads(generate.SCHEMA.read_text()))


@pytest.mark.parametrize("size", SIZES)
def test_the_server_takes_the_rendered_settings(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGELINK_DATABASE_URL", "postgresql://db/imagelink")
    monkeypatch.setenv("IMAGELINK_OPERATOR_KEY", "key")
    config = serve_config(documents(size_values(size)))
    for application in config["applications"]:
        settings = ClusterSettings.model_validate(application["args"])
        assert settings.grpc_port == config["grpc_options"]["port"]
        assert len(config["applications"]) == 1 + settings.shards
