"""What builds the applications of a cluster: their secrets, and how they wait for the database."""

import asyncio
import pickle
import sys
from pathlib import Path

import pytest
from ray import cloudpickle

from server import cluster
from server.cluster import ClusterSettings, PodBackends, prepare, shard
from tests.conftest import Postgres

KEY = "il_operator_of_this_test"


@pytest.fixture
def settings(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ClusterSettings:
    monkeypatch.setenv("IMAGELINK_DATABASE_URL", postgres.create_database())
    monkeypatch.setenv("IMAGELINK_OPERATOR_KEY", KEY)
    given = {"blob_url": f"file://{tmp_path}/blobs", "data_dir": tmp_path}
    return ClusterSettings.model_validate(given)


def test_an_application_takes_no_secret_along(settings: ClusterSettings) -> None:
    prepare(settings)
    built = cloudpickle.dumps(shard(settings)._bound_deployment.init_args)
    assert str(settings.data_dir).encode() in built
    assert KEY.encode() not in built
    assert settings.database_url.get_secret_value().encode() not in built


def test_where_it_arrives_the_environment_has_the_secrets(
    settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(cluster._backends(settings))
    monkeypatch.setenv("IMAGELINK_OPERATOR_KEY", "il_operator_of_that_pod")
    arrived = pickle.loads(sent)
    assert isinstance(arrived, PodBackends)
    assert arrived.operator_key == "il_operator_of_that_pod"
    assert arrived.database_url == settings.database_url.get_secret_value()
    assert arrived.bundles == settings.data_dir / "bundles"


def test_an_application_waits_for_a_prepared_database(
    settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PREPARED_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.05)
    with pytest.raises(TimeoutError, match="The database is not prepared"):
        shard(settings)
    monkeypatch.setattr(cluster, "PREPARED_SECONDS", 30.0)

    async def prepare_meanwhile() -> None:
        waiting = asyncio.create_task(cluster._prepared(cluster._backends(settings)))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(prepare, settings)
        _, shards = await waiting
        assert shards == [0]

    asyncio.run(prepare_meanwhile())


def test_preparing_twice_changes_nothing(settings: ClusterSettings) -> None:
    prepare(settings)
    before = asyncio.run(cluster._prepared(cluster._backends(settings)))
    prepare(settings)
    assert asyncio.run(cluster._prepared(cluster._backends(settings))) == before


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMAGELINK_DATABASE_URL", raising=False)
    monkeypatch.setenv("IMAGELINK_OPERATOR_KEY", KEY)
    monkeypatch.setattr(sys, "argv", ["cluster", "--blob-url", "s3://images"])
    with pytest.raises(SystemExit) as ended:
        cluster.main()
    assert "database_url: Field required" in str(ended.value)
    assert KEY not in str(ended.value)
