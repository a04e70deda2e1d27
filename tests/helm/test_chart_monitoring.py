"""Alerts and dashboard: of metrics that Ray has, with runbooks that are written."""

import json
import re

import pytest

from tests.helm.chart import CHART, EVERYTHING, ROOT, documents, of_kind

METRIC = re.compile(r"\bray_\w+")


def alerts() -> list[dict]:
    (rules,) = of_kind(documents(EVERYTHING), "PrometheusRule")
    (group,) = rules["spec"]["groups"]
    return group["rules"]


def dashboard_queries() -> list[str]:
    dashboard = json.loads((CHART / "dashboards" / "imagelink.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def used_metrics() -> set[str]:
    """The metrics that alerts and dashboard ask for."""
    queries = [rule["expr"] for rule in alerts()] + dashboard_queries()
    return {name for query in queries for name in METRIC.findall(query)}


@pytest.mark.parametrize("alert", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_runbook(alert: dict) -> None:
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page.endswith("/operations.md")
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert alert["for"]


def test_alerts_are_about_this_installation() -> None:
    (service,) = (
        s for s in of_kind(documents(EVERYTHING), "Service") if "metrics" in s["metadata"]["name"]
    )
    for rule in alerts():
        selectors = re.findall(r"ray_\w+\{([^}]*)\}", rule["expr"])
        assert len(selectors) == len(METRIC.findall(rule["expr"]))
        assert all(f'service="{service["metadata"]["name"]}"' in each for each in selectors)


def test_the_monitor_finds_the_service_of_metrics() -> None:
    found = documents(EVERYTHING)
    (monitor,) = of_kind(found, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    chosen = [
        s for s in of_kind(found, "Service") if wanted.items() <= s["metadata"]["labels"].items()
    ]
    assert [service["metadata"]["name"] for service in chosen] == ["imagelink-metrics"]
    ports = {port["name"] for port in chosen[0]["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_brackets_of_every_query_are_closed() -> None:
    for query in [rule["expr"] for rule in alerts()] + dashboard_queries():
        for opening, closing in ("()", "[]", "{}"):
            assert query.count(opening) == query.count(closing), query
