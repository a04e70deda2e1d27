"""``imagelink model``: the commands, against a small real gRPC server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imagelink.cli import _rollout_view
from imagelink.v1 import model_pb2 as pb
from imagelink.v1.model_pb2_grpc import add_ModelsServicer_to_server

from tests.unit.fake_servers import served
from tests.unit.test_client import lines, run
from tests.unit.test_client_models import MANIFEST, NAME, ModelServer, write_bundle

TO_READY = [
    pb.ROLLOUT_STATE_BACKFILLING,
    pb.ROLLOUT_STATE_BACKFILLING,
    pb.ROLLOUT_STATE_EVALUATING,
    pb.ROLLOUT_STATE_READY,
]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with served(ModelServer(), add_ModelsServicer_to_server) as servicer:
        yield servicer


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rollout_view, "INTERVAL", 0)


def fields(printed: str) -> dict[str, str]:
    """What is printed as a name and its value in each line."""
    pairs = (line.strip().split("  ", 1) for line in printed.splitlines() if "  " in line.strip())
    return {name: value.strip() for name, value in pairs}


# Models


def test_models_are_a_table(server: ModelServer) -> None:
    printed = run(server, "model", "list").stdout.splitlines()
    assert printed[0].split() == ["version", "state", "architecture", "dimension", "registered"]
    moment = ["2026-11-25", "12:30:00"]
    assert printed[1].split() == ["second", "uploaded", "resnet18", "64", *moment]
    listed = lines(run(server, "model", "list", "--json").stdout)
    assert [each["name"] for each in listed] == ["models/second", "models/first"]


def test_a_model_is_shown_with_its_metrics(server: ModelServer) -> None:
    shown = fields(run(server, "model", "show", "second").stdout)
    assert (shown["version"], shown["size"]) == ("second", "3,500,000 bytes")
    assert shown["recall"] == "0.97"
    (shown,) = lines(run(server, "model", "show", "second", "--json").stdout)
    assert shown["metrics"] == {"recall": 0.97}


def test_a_bundle_is_registered(server: ModelServer, tmp_path: Path) -> None:
    done = run(server, "model", "register", write_bundle(tmp_path / "second"))
    assert fields(done.stdout)["version"] == "second"
    assert server.files[pb.MODEL_FILE_MANIFEST] == MANIFEST


def test_a_folder_that_is_no_bundle_is_one_sentence(server: ModelServer, tmp_path: Path) -> None:
    done = run(server, "model", "register", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == f"{tmp_path} is no bundle of a model: it has no manifest.json.\n"
    assert server.calls["RegisterModel"] == 0


def test_a_model_is_deleted_once_confirmed(server: ModelServer) -> None:
    assert run(server, "model", "delete", "second").exit_code == 1
    assert server.calls["DeleteModel"] == 0
    assert run(server, "model", "delete", "second", "--yes").stdout == "Deleted second.\n"
    refused = run(server, "model", "delete", "first", "--yes")
    assert (refused.exit_code, refused.stderr) == (1, "It serves.\n")


# Beginning a rollout


def test_a_rollout_is_followed_until_it_is_ready(server: ModelServer) -> None:
    server.states = list(TO_READY)
    options = ["--rate", 20, "--shadow", 0.25]
    done = run(server, "model", "rollout", "second", *options)
    assert done.exit_code == 0
    assert fields(done.stdout)["state"] == "ready since 2026-11-25 12:30:00"
    assert server.calls["GetRollout"] == 4
    assert server.calls["ActivateRollout"] == 0
    (started,) = (each for each in server.requests if isinstance(each, pb.StartRolloutRequest))
    assert (started.max_images_per_second, started.shadow_share) == (20, 0.25)


def test_a_folder_is_registered_first(server: ModelServer, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    done = run(server, "model", "rollout", folder, "--no-watch", "--json")
    assert done.stderr == "Registered second.\n"
    assert lines(done.stdout)[0]["state"] == "backfilling"
    assert server.last().model == "models/second"
    assert server.calls["GetRollout"] == 0


def test_a_folder_that_is_not_there_is_no_version(server: ModelServer, tmp_path: Path) -> None:
    done = run(server, "model", "rollout", tmp_path / "none")
    assert (done.exit_code, done.stderr) == (1, f"There is no folder {tmp_path / 'none'}.\n")
    assert server.requests == []


def test_a_canary_is_switched_once_the_rollout_is_ready(server: ModelServer) -> None:
    server.states = list(TO_READY)
    chosen = ["--canary", 5, "--publisher", "acme", "--publisher", "other"]
    done = run(server, "model", "rollout", "second", *chosen, "--json")
    states = [each["state"] for each in lines(done.stdout)]
    assert states == ["backfilling", "evaluating", "ready", "canary"]
    assert (server.last().name, server.last().percent) == (NAME, 5)
    assert list(server.last().publishers) == ["publishers/acme", "publishers/other"]


def test_nobody_is_switched_when_the_gate_failed(server: ModelServer) -> None:
    server.gate_passed = False
    done = run(server, "model", "rollout", "second", "--canary", 5)
    assert done.exit_code == 1
    assert "the comparison failed" in done.stderr
    assert server.calls["ActivateRollout"] == 0


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (pb.ROLLOUT_STATE_CANCELLED, "Nobody was switched: the rollout is cancelled.\n"),
        (pb.ROLLOUT_STATE_FAILED, ""),
    ],
)
def test_nobody_is_switched_when_the_rollout_ended(
    server: ModelServer, state: Any, told: str
) -> None:
    server.states = [pb.ROLLOUT_STATE_BACKFILLING, state]
    done = run(server, "model", "rollout", "second", "--publisher", "acme")
    assert (done.exit_code, done.stderr) == (1, told)
    assert server.calls["ActivateRollout"] == 0


def test_a_canary_cannot_be_switched_without_waiting(server: ModelServer) -> None:
    done = run(server, "model", "rollout", "second", "--canary", 5, "--no-watch")
    assert done.exit_code == 1
    assert "leave out --no-watch" in done.stderr
    assert server.requests == []


# Watching it


@pytest.mark.parametrize(
    "state",
    [
        pb.ROLLOUT_STATE_READY,
        pb.ROLLOUT_STATE_ACTIVE,
        pb.ROLLOUT_STATE_COMPLETED,
        pb.ROLLOUT_STATE_CANCELLED,
    ],
)
def test_a_watch_ends_when_the_rollout_waits_or_has_ended(server: ModelServer, state: Any) -> None:
    server.states = [pb.ROLLOUT_STATE_BACKFILLING, pb.ROLLOUT_STATE_CANARY, state]
    assert run(server, "model", "watch").exit_code == 0
    assert server.calls["GetRollout"] == 3


def test_a_watch_of_a_failure_fails_and_says_why(server: ModelServer) -> None:
    server.states = [pb.ROLLOUT_STATE_BACKFILLING, pb.ROLLOUT_STATE_FAILED]
    done = run(server, "model", "watch", "7")
    assert done.exit_code == 1
    assert fields(done.stdout)["problem"] == "A picture is lost."


def test_a_watch_prints_each_change_once_as_json(server: ModelServer) -> None:
    server.states = list(TO_READY)
    printed = lines(run(server, "model", "watch", "--json").stdout)
    assert [each["state"] for each in printed] == ["backfilling", "evaluating", "ready"]
    assert printed[0]["backfill"]["seconds_left"] == 120
    assert server.calls["GetRollout"] == 4


# Every command


def test_progress_is_printed_for_people(server: ModelServer) -> None:
    printed = fields(run(server, "model", "pause").stdout)
    assert printed["rollout"] == "7"
    assert printed["model"] == "second in place of first"
    assert printed["state"] == "backfilling (paused) since 2026-11-25 12:30:00"
    progress = "500 of 2,000 images, 3 unusable, 12.5 a second, 0:02:00 left"
    assert printed["backfill"] == progress
    assert printed["gate"] == "not compared yet"
    assert printed["shadow"] == (
        "190 of 200 scans alike (95.0%), 7 found by the former version alone, 3 by the new one alone"
    )
    assert "scans" not in printed


def test_rates_are_printed_once_somebody_is_switched(server: ModelServer) -> None:
    printed = fields(run(server, "model", "activate", "--percent", 5).stdout)
    assert printed["publishers"] == "2 switched"
    assert printed["scans"] == "30, 50.0% found something, 40 ms"
    assert printed["hour before"] == "1,000, 62.5% found something, 40 ms"


def test_activate_switches_whom_it_is_told(server: ModelServer) -> None:
    run(server, "model", "activate", "--publisher", "acme", "--percent", 5)
    expected = {"publishers": ["publishers/acme"], "percent": 5}
    assert server.last() == pb.ActivateRolloutRequest(name=NAME, **expected)  # type: ignore[arg-type]
    run(server, "model", "activate", "7", "--force")
    assert server.last() == pb.ActivateRolloutRequest(name=NAME, force=True)
    assert run(server, "model", "activate", "--percent", 0).exit_code == 2


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("activate", "active"),
        ("rollback", "ready"),
        ("end", "completed"),
        ("pause", "backfilling"),
        ("resume", "backfilling"),
    ],
)
def test_the_rollout_under_way_is_meant_unless_one_is_named(
    server: ModelServer, command: str, state: str
) -> None:
    (changed,) = lines(run(server, "model", command, "--json").stdout)
    assert (changed["name"], changed["state"]) == (NAME, state)
    assert changed["paused"] is (command == "pause")
    run(server, "model", command, "6")
    assert "rollouts/6" in str(server.last())
    assert server.calls["ListRollouts"] == 1


@pytest.mark.parametrize(
    "command", ["watch", "preview", "activate", "rollback", "end", "pause", "resume"]
)
def test_without_a_rollout_under_way_one_has_to_be_named(server: ModelServer, command: str) -> None:
    server.ended = True
    done = run(server, "model", command)
    sentence = "No rollout is under way: name one of `imagelink model rollouts`.\n"
    assert (done.exit_code, done.stderr) == (1, sentence)
    assert set(server.calls) == {"ListRollouts"}


def test_a_preview_shows_both_versions_and_what_flips(server: ModelServer) -> None:
    server.gate_passed = False
    printed = [
        " ".join(line.split()) for line in run(server, "model", "preview").stdout.splitlines()
    ]
    assert printed == [
        "version views recall false accepts calibration error mean time",
        "former 400 95.0% 0.25% 0.125 31.5 ms",
        "new 400 75.0% 0.25% 0.125 31.5 ms",
        "Of 60 kept scans 50 are answered alike, 5 lost, 2 changed, 3 gained.",
        "The comparison failed.",
        "- It recognises less.",
        "no longer recognised view answered instead",
        "publishers/acme/references/a a clear view",
        "publishers/acme/references/a a dark view publishers/acme/references/b",
    ]
    (preview,) = lines(run(server, "model", "preview", "7", "--json").stdout)
    assert preview["negative_flips"][1]["answer"] == "publishers/acme/references/b"
    assert preview["kept_scans"]["lost_count"] == 5
    server.kept_scans = pb.KeptScanAgreement()
    assert "kept scans" not in run(server, "model", "preview").stdout


def test_rollouts_are_a_table(server: ModelServer) -> None:
    printed = [line.split() for line in run(server, "model", "rollouts").stdout.splitlines()]
    assert printed[0] == ["rollout", "model", "former", "state", "since", "publishers"]
    since = ["2026-11-25", "12:30:00"]
    assert printed[1] == ["7", "second", "first", "ready", *since, "0"]
    assert printed[2] == ["6", "second", "first", "completed", *since, "0"]
    assert len(lines(run(server, "model", "rollouts", "--json").stdout)) == 2
