"""The Dockerfile, as far as it can be tried without Docker: its files, its pins, its install."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helm_python import Chart
from packaging.requirements import Requirement

from tests.helm.chart import CHART, ROOT, documents, pods, ray_service

DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNCACHED = re.compile(r"\s*\\\n\s*")
INSTALL = re.compile(r"python -m pip install (.*)$", re.MULTILINE)
PROJECTS = ("clients/python/pyproject.toml", "pyproject.toml")
OURS = {"imagelink", "imagelink-server"}


def copied() -> list[tuple[list[str], str]]:
    """What is copied from the build context, and where to."""
    lines = [line.split()[1:] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    return [(names[:-1], names[-1]) for names in lines if not names[0].startswith("--from")]


def install_arguments() -> list[str]:
    """The arguments of the pip that installs everything."""
    (arguments,) = INSTALL.findall(UNCACHED.sub(" ", DOCKERFILE).replace("; ", "\n"))
    return [each for each in shlex.split(arguments) if each != "$index"]


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_what_is_copied_exists_and_is_sent_to_docker() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    names = {name for sources, _ in copied() for name in sources}
    assert all((ROOT / name).exists() for name in names)
    assert names == allowed


def test_versions_are_those_of_the_lock() -> None:
    arguments = install_arguments()
    assert arguments[arguments.index("--constraint") + 1] == "requirements.lock"
    for project in PROJECTS:
        found = tomllib.loads((ROOT / project).read_text())["project"]["dependencies"]
        for requirement in map(Requirement, found):
            if requirement.name not in OURS:
                assert requirement.specifier.contains(pinned()[requirement.name]), requirement


def test_the_chart_names_the_versions_that_are_installed() -> None:
    cluster = ray_service(documents({}))["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == pinned()["ray"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == project["version"]


def test_the_install_steps_make_a_prefix_that_has_everything(tmp_path: Path) -> None:
    source, prefix = tmp_path / "source", tmp_path / "prefix"
    for names, target in copied()[:-1]:
        for name in names:
            _copy(ROOT / name, source / (name if target == "./" else target))
    arguments = install_arguments()
    arguments[arguments.index("--prefix") + 1] = str(prefix)
    # What both projects depend on is gigabytes; whether the lock has it is tested above.
    offline = ["--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, *arguments],
        cwd=source,
        check=True,
        timeout=120,
    )
    (packages,) = prefix.glob("lib/python*/site-packages")
    for name in (
        "server/cluster.py",
        "indexing/sql/queries.sql",
        "indexing/default_bundle/model.safetensors",
        "imagelink/v1/recognition_pb2.py",
        "training/__main__.py",
    ):
        assert (packages / name).exists()
    migrations = {path.name for path in (ROOT / "indexing/sql/migrations").iterdir()}
    assert {path.name for path in (packages / "indexing/sql/migrations").iterdir()} == migrations
    assert (prefix / "bin" / "imagelink").exists()


def test_it_runs_as_the_user_of_the_chart() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert {pod.spec["securityContext"]["runAsUser"] for pod in pods(documents({}))} == {int(user)}


@pytest.mark.parametrize("tool", ["bash", "wget"])
def test_it_has_what_kuberays_probes_call(tool: str) -> None:
    (installed,) = re.findall(
        r"apt-get install (.*)$", UNCACHED.sub("\n", DOCKERFILE), re.MULTILINE
    )
    assert tool in installed.split()


def test_it_has_a_private_runtime_folder_of_its_user() -> None:
    (folder,) = re.findall(r"XDG_RUNTIME_DIR=(\S+)", DOCKERFILE)
    (made,) = re.findall(rf"install (--directory .*) {folder}$", DOCKERFILE, re.MULTILINE)
    assert made.split()[1:] == ["--owner", "imagelink", "--group", "imagelink", "--mode", "700"]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
