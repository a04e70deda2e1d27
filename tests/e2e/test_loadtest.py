"""The load test against a real server: what it writes, and what sets its exit code."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtests.local import locust_command
from loadtests.prepare import delete_publishers, prepare
from loadtests.thresholds import MET, NOT_MET
from loadtests.workload import Workload, read_workload, write_workload
from tests.e2e.harness import HOST, RunningServer, free_port

PATIENT = ("--max-p50", "9000", "--max-p95", "9000", "--max-p99", "9000", "--max-failures", "0")
BUSY = ("--users", "8", "--think-time", "0.3")


@pytest.fixture(scope="module")
def workload(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workload, Path]]:
    folder = tmp_path_factory.mktemp("workload")
    yield prepare(server.target, server.operator_key, folder, publishers=2, photos=1), folder
    prepared = read_workload(folder)
    delete_publishers(prepared, server.operator_key)
    left = {publisher.id for publisher in server.operator.list_publishers()}
    assert left.isdisjoint(publisher.id for publisher in prepared.publishers)


def test_good_load_ends_with_0_and_its_reports(
    workload: tuple[Workload, Path], tmp_path: Path
) -> None:
    options = ("--run-time", "10s", "--mix", "hostile", *BUSY, *PATIENT)
    ended = _locust(workload[1], tmp_path, *options)
    assert ended.returncode == MET, ended.stdout + ended.stderr
    summary = _summary(tmp_path)
    assert summary["met"]
    assert summary["measurements"]["failure_share"] == 0
    assert summary["measurements"]["accuracy"] >= 0.95
    assert 0 < summary["measurements"]["p50"] <= summary["measurements"]["p99"]
    calls = {entry["name"]: entry for entry in json.loads((tmp_path / "calls.json").read_text())}
    assert (
        sum(entry["num_requests"] for entry in calls.values()) == summary["measurements"]["calls"]
    )
    assert {
        "Scan, registered",
        "Scan, stranger",
        "Scan, wrong key",
        "Scan, too large",
    } <= calls.keys()
    assert "Scan, registered" in (tmp_path / "report.html").read_text()
    assert "Scan, registered" in (tmp_path / "stats_stats.csv").read_text()


def test_workers_measure_together_and_an_impossible_threshold_fails(
    workload: tuple[Workload, Path], tmp_path: Path
) -> None:
    load = ("--processes", "2", "--run-time", "5s", "--mix", "cameras", *BUSY)
    ended = _locust(workload[1], tmp_path, *load, *PATIENT, "--max-p50", "0.001")
    assert ended.returncode == NOT_MET, ended.stdout + ended.stderr
    calls = {entry["name"]: entry for entry in json.loads((tmp_path / "calls.json").read_text())}
    assert calls["ScanStream"]["num_requests"] > 0
    assert calls["ScanStream"]["num_failures"] == 0
    summary = _summary(tmp_path)
    assert summary["measurements"]["calls"] > 0
    assert [each["name"] for each in summary["thresholds"] if not each["met"]] == ["scan p50"]
    assert "NOT MET" in ended.stdout


def test_wrong_answers_fail_though_every_call_succeeds(
    workload: tuple[Workload, Path], tmp_path: Path
) -> None:
    publishers = tuple(
        replace(
            each, photos=tuple(replace(photo, shows=f"{photo.shows}-no") for photo in each.photos)
        )
        for each in workload[0].publishers
    )
    write_workload(replace(workload[0], publishers=publishers), tmp_path / "workload")
    options = ("--run-time", "4s", "--mix", "scans", *BUSY, *PATIENT)
    ended = _locust(tmp_path / "workload", tmp_path, *options)
    assert ended.returncode == NOT_MET, ended.stdout + ended.stderr
    summary = _summary(tmp_path)
    assert [each["name"] for each in summary["thresholds"] if not each["met"]] == ["accuracy"]
    assert "WrongAnswer('took it for another')" in {each["error"] for each in summary["failures"]}


def test_server_that_is_not_there_fails(workload: tuple[Workload, Path], tmp_path: Path) -> None:
    options = ("--host", f"{HOST}:{free_port()}", "--call-timeout", "1", "--run-time", "4s")
    ended = _locust(workload[1], tmp_path, *options, *BUSY)
    assert ended.returncode == NOT_MET, ended.stdout + ended.stderr
    assert _summary(tmp_path)["measurements"]["accuracy"] is None
    assert "CallFailed" in ended.stdout


def test_missing_workload_is_said_in_a_sentence(tmp_path: Path) -> None:
    ended = _locust(tmp_path / "none", tmp_path)
    assert ended.returncode != MET
    assert "Traceback" not in ended.stderr
    assert "python -m loadtests prepare" in ended.stderr


def _locust(workload: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*locust_command(workload, output), *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def _summary(output: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return summary
