"""A server on a Ray cluster: what its Serve configuration imports, and what its preparation runs.

The database's URL and the operator's key are in the environment of every pod. They are in no
argument, so neither the Serve configuration nor what Ray stores of an application has them.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from indexing.errors import DatabaseUnavailable, ImageLinkError, ShardUnavailable
from indexing.gallery import open_pool
from indexing.gallery_models import ModelStore
from indexing.gallery_placement import PlacementStore
from indexing.migrations import pending
from indexing.placement import ShardState
from server.app import prepare_database
from server.settings import Backends, Settings, given

SECRETS = {"database_url", "operator_key"}
# A database that comes with the server takes minutes to be there, and is prepared after that.
PREPARED_SECONDS = 600.0
POLL_SECONDS = 2.0


class ClusterSettings(Settings):
    """Settings where nothing is embedded: database, blobs and operator's key must be named."""

    database_url: SecretStr
    blob_url: str
    operator_key: SecretStr


class PodBackends(Backends):
    """Backends that travel without secrets: where they arrive, the environment has them."""

    __slots__ = ()

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _pod_backends, (self.blob_url, self.snapshots, self.bundles)


def scanner(settings: ClusterSettings) -> object:
    """Builds the application of the API, with ``settings.scanners`` replicas or as many as it needs.

    Waits until the database is prepared, and for the shards; raises TimeoutError where the database
    takes too long.
    """
    # Ray is slow to import, and the preparation does without it.
    from server.deployments import Scanner

    backends = _backends(settings)
    version, shards = asyncio.run(_prepared(backends))
    asyncio.run(_start_shards(_without_secrets(settings), backends, version, shards))
    return _bound(Scanner, settings.scanners, settings, backends, version)


def shard(settings: ClusterSettings) -> object:
    """Builds the application of one gallery shard: ``shard-N`` by its name, N from 0 on.

    Waits until the database is prepared; raises TimeoutError where that takes too long.
    """
    from server.deployments import GalleryShard

    backends = _backends(settings)
    version, _ = asyncio.run(_prepared(backends))
    return _bound(GalleryShard, settings.shard_replicas, settings, backends, version)


def _bound(
    deployment: Any, replicas: int, settings: ClusterSettings, backends: Backends, version: str
) -> object:
    from server.deployments import limits

    sized = deployment.options(num_replicas=replicas, **limits(settings))
    return sized.bind(_without_secrets(settings), backends, version)


def prepare(settings: ClusterSettings) -> None:
    """Brings the database up to date, with the bundle and the shards of the settings in it.

    Raises BundleInvalid, DatabaseUnavailable and FeaturesMissing.
    """
    asyncio.run(prepare_database(settings, _backends(settings)))


def main() -> None:
    """``python -m server.cluster``: prepares the database of the environment."""
    try:
        prepare(given(ClusterSettings))
    except ImageLinkError as error:
        sys.exit(f"error: {error}")
    print("The database is prepared.")


async def _prepared(backends: Backends) -> tuple[str, list[int]]:
    """The model version in service and the shards, once the database has them."""
    deadline = time.monotonic() + PREPARED_SECONDS
    while time.monotonic() < deadline:
        with suppress(DatabaseUnavailable):
            if not await pending(backends.database_url):
                found = await _in_service(backends)
                if found is not None:
                    return found
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError("The database is not prepared: see `python -m server.cluster`.")


async def _in_service(backends: Backends) -> tuple[str, list[int]] | None:
    pool = await open_pool(backends.database_url, 1)
    try:
        models = ModelStore(pool)
        if not await models.has_serving():
            return None
        shards = (await PlacementStore(pool).read()).shards
        open_ones = [each.number for each in shards if each.state is not ShardState.DRAINED]
        return (await models.serving()).default, open_ones
    finally:
        await pool.close()


async def _start_shards(
    settings: Settings, backends: Backends, version: str, shards: Sequence[int]
) -> None:
    """Waits until shards run, so that an API that answers can scan.

    Starts those of ``imagelink shard add``, which the Serve configuration has not. One that takes
    too long is not waited for: it comes when the cluster has room for it.
    """
    from server.deployments import ShardApplications

    applications = ShardApplications(settings, backends, version)

    async def start(shard: int) -> None:
        with suppress(ShardUnavailable):
            await applications.start(shard)

    await asyncio.gather(*(start(shard) for shard in shards))


def _without_secrets(settings: ClusterSettings) -> Settings:
    return Settings.model_construct(**settings.model_dump(exclude=SECRETS))


def _backends(settings: ClusterSettings) -> PodBackends:
    return PodBackends(
        settings.database_url.get_secret_value(),
        settings.blob_url,
        settings.snapshot_dir or settings.data_dir / "snapshots",
        settings.bundle_dir or settings.data_dir / "bundles",
        settings.operator_key.get_secret_value(),
    )


def _pod_backends(blob_url: str, snapshots: Path, bundles: Path) -> PodBackends:
    found = {"blob_url": blob_url, "snapshot_dir": snapshots, "bundle_dir": bundles}
    return _backends(ClusterSettings.model_validate(found))


if __name__ == "__main__":
    main()
