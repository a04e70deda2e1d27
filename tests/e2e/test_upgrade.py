"""A new server takes the place of an old one, both over one database."""

from pathlib import Path

from benchmarks.upgrade import run
from indexing.bundle import DEFAULT_BUNDLE


def test_an_upgrade_under_load_answers_nothing_wrong_and_loses_no_write(tmp_path: Path) -> None:
    report = run(tmp_path / "upgrade.json", DEFAULT_BUNDLE, former=None, seconds=2)

    assert report["wrong"] == []
    assert report["lost"] == []
    for name, phase in report["phases"].items():
        assert phase["scans"] > 0, name
        assert phase["writes"] > 0, name
        assert phase["errors"] == {}, name
