"""The Ray Serve deployments, and how they are started."""

import asyncio
import logging
import os
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

import cv2
import faiss
import ray
import structlog
from opentelemetry.trace import SpanKind
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import gRPCOptions
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus, LoggingConfig

from indexing.allocator import keep_freed_memory
from indexing.blobs import BlobStore
from indexing.bundle_store import BundleStore
from indexing.errors import ImageLinkError, ShardUnavailable
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_archives import ArchiveStore
from indexing.gallery_backfill import BackfillStore
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_models import ModelStore
from indexing.gallery_placement import PlacementStore
from indexing.gallery_scans import KeptScanStore
from indexing.gallery_watch import ScanCountStore
from indexing.placement import Generation
from indexing.replica import ShardReplica
from indexing.search import Query, SearchResult
from indexing.shard import ModelShards
from indexing.snapshot import SnapshotStore
from server import tracing
from server.archives import Archivist
from server.assessment import Assessor
from server.auth import Authenticator
from server.backfill import BATCH
from server.background import NICENESS, RightOfWay
from server.erasing import Eraser
from server.explanation import Explainer
from server.fair_queue import QueueLimits
from server.gate import Gate
from server.keeping import Keeper
from server.logs import configure as configure_logs
from server.meter import Meter
from server.model_operator import ModelOperator
from server.models import Models, ServingFollower
from server.monitoring import Monitoring, ScanMonitor, Shadow, Watch
from server.placement import PlacementFollower, Placer
from server.rebalancing import Rebalancer
from server.registration import Registrar
from server.rollout_driver import Preparer, RolloutDriver, RolloutSupervisor
from server.scanning import PlacedGalleries, Scanning
from server.service import Services
from server.sessions import CameraSessions
from server.settings import Backends, Settings

APPLICATION = "imagelink"
WORKER = "rollout"
# Of the system's processes, after which the worker of a rollout comes.
LOWEST_PRIORITY = 19
# Batches of features travel inline; the object store only needs room for what Ray itself puts.
DRAIN_SECONDS = 5
# A search in the background waits so long for a moment without a scan's.
BACKGROUND_SECONDS = 0.25
OBJECT_STORE_BYTES = 256 * 1024 * 1024
# How many shards may be added while the server of one machine runs, and how long one may start.
MORE_SHARDS = 8
START_SECONDS = 120.0
# Scans are logged by their ids; a line of Ray's own for each call besides costs a tenth of its work.
LOGGING = LoggingConfig(enable_access_log=False)
# What a call raises whose replica is gone, or takes no more calls.
LOST = (RayServeException, RayActorError)
SERVICERS = [
    "imagelink.v1.recognition_pb2_grpc.add_RecognitionServicer_to_server",
    "imagelink.v1.gallery_pb2_grpc.add_GalleryServicer_to_server",
    "imagelink.v1.publisher_pb2_grpc.add_PublishersServicer_to_server",
    "imagelink.v1.placement_pb2_grpc.add_ShardsServicer_to_server",
    "imagelink.v1.model_pb2_grpc.add_ModelsServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
]

log = structlog.get_logger()


def _one_thread_per_request() -> None:
    # Requests run side by side in threads; libraries that thread each one too would only contend.
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)


def _one_thread_for_the_network() -> None:
    # PyTorch takes seconds to import, which is left to those bundles that need it.
    os.environ["OMP_NUM_THREADS"] = "1"


def _open_as_many_files_as_allowed() -> None:
    # Each loaded gallery keeps its snapshot's file open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@serve.deployment(health_check_period_s=5, logging_config=LOGGING)
class GalleryShard:
    """One replica of a gallery shard."""

    async def __init__(self, settings: Settings, backends: Backends, version: str) -> None:
        configure_logs()
        tracing.begin(settings, "shard", serve.get_replica_context().replica_tag)
        _one_thread_per_request()
        _open_as_many_files_as_allowed()
        shards = ModelShards(_bundles(backends).load)
        await shards.generation(version)
        pool = await open_pool(backends.database_url, settings.database_connections)
        self._replica = ShardReplica(
            shards.generation,
            GalleryStore(pool),
            SnapshotStore(backends.snapshots),
            ErasureStore(pool),
            serve.get_replica_context().replica_tag,
            settings.gallery_memory_mb * 1_000_000,
        )
        self._way = RightOfWay(BACKGROUND_SECONDS)
        self._following = asyncio.create_task(self._replica.follow())

    async def search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        """Answers the queries of a batch of scans."""
        with self._way.live():
            return await self._search(queries)

    async def search_in_background(
        self, queries: Sequence[Query]
    ) -> list[SearchResult | ImageLinkError]:
        """Answers queries that no scan waits for, behind those of scans."""
        async with self._way.background():
            return await self._search(queries)

    async def _search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        asking = [tracing.elsewhere(query.trace) for query in queries]
        with tracing.stage("shard.search", asking, SpanKind.SERVER):
            return await self._replica.search(queries)

    async def warm(self, galleries: Sequence[Generation]) -> None:
        """Loads galleries, or parts of some, before scans ask for them."""
        await self._replica.warm(galleries)

    async def prepare(self, former: str, new: str) -> None:
        """Loads what is loaded of one model version under another."""
        await self._replica.prepare(former, new)

    async def check_health(self) -> None:
        """Fails where the replica no longer follows the changes."""
        if self._following.done():
            self._following.result()


@serve.deployment(health_check_period_s=5, logging_config=LOGGING)
class Scanner(Services):
    """The ingress: one replica of the API, with the models in it."""

    async def __init__(self, settings: Settings, backends: Backends, version: str) -> None:
        configure_logs()
        keep_freed_memory()
        _one_thread_per_request()
        _one_thread_for_the_network()
        pool = await open_pool(backends.database_url, settings.database_connections)
        store, blobs = GalleryStore(pool), BlobStore.from_url(backends.blob_url)
        eraser = Eraser(store, ErasureStore(pool), blobs)
        versions, images, counts = ModelStore(pool), BackfillStore(pool), ScanCountStore(pool)
        serving, bundles = ServingFollower(versions, version), _bundles(backends)
        name = serve.get_replica_context().replica_tag
        tracing.begin(settings, "scanner", name)
        models = Models(bundles.load, serving, versions, name, settings.batch_size)
        await models.begin()
        placements, shards = PlacementStore(pool), ShardApplications(settings, backends, version)
        placed, placer = PlacementFollower(placements), Placer(placements, shards, models.version)
        rebalancer = Rebalancer(placements, placed, shards, placer, settings.part_images)
        galleries = PlacedGalleries(placed.placement, shards.search)
        behind = PlacedGalleries(placed.placement, shards.search_in_background)
        shadow, watch = Shadow(models, serving, behind.search, counts), Watch(versions, counts)
        keeper = Keeper(KeptScanStore(pool), blobs, settings.kept_scan_days)
        monitoring = Monitoring(ScanMonitor(counts), shadow, keeper, watch, serving)
        scanning = Scanning(
            models, galleries.search, monitoring.note, Meter(), queue_limits(settings)
        )
        supervisor = RolloutSupervisor(versions, images, serving, shards)
        registrar = Registrar(store, blobs, models)
        preparer = Preparer(placed, shards)
        super().__init__(
            Authenticator(store, backends.operator_key),
            store,
            registrar,
            eraser,
            Archivist(store, ArchiveStore(pool), blobs, models),
            scanning,
            CameraSessions(scanning, max(1, settings.max_ongoing_requests // 2)),
            Explainer(scanning, store, blobs),
            Assessor(models.serving, behind.search),
            placer,
            ModelOperator(
                versions, bundles, images, counts, watch, preparer, settings.model_memory_mb
            ),
        )
        followers = (
            registrar,
            eraser,
            placed,
            rebalancer,
            serving,
            models,
            monitoring,
            keeper,
            supervisor,
        )
        self._following = [asyncio.create_task(each.follow()) for each in followers]

    async def check_health(self) -> None:
        """Fails where the replica no longer follows the placement, or moves or erases any more."""
        for task in self._following:
            if task.done():
                task.result()


@serve.deployment(health_check_period_s=5, logging_config=LOGGING)
class RolloutWorker:
    """The process that drives a rollout, behind all others in priority."""

    async def __init__(self, settings: Settings, backends: Backends, version: str) -> None:
        os.nice(LOWEST_PRIORITY)
        configure_logs()
        keep_freed_memory()
        _one_thread_per_request()
        _one_thread_for_the_network()
        pool = await open_pool(backends.database_url, settings.database_connections)
        store, blobs = GalleryStore(pool), BlobStore.from_url(backends.blob_url)
        versions, images = ModelStore(pool), BackfillStore(pool)
        serving = ServingFollower(versions, version)
        name = serve.get_replica_context().replica_tag
        models = Models(_bundles(backends).load, serving, versions, name, BATCH)
        shards = ShardApplications(settings, backends, version)
        placed = PlacementFollower(PlacementStore(pool))
        search = PlacedGalleries(placed.placement, shards.search_in_background).search
        gate = Gate(store, images, KeptScanStore(pool), blobs, search)
        preparer = Preparer(placed, shards)
        driver = RolloutDriver(versions, images, serving, models, blobs, gate, preparer)
        self._following = [asyncio.create_task(each.follow()) for each in (placed, driver)]

    async def check_health(self) -> None:
        """Fails where the replica no longer drives."""
        for task in self._following:
            if task.done():
                task.result()


class ShardApplications:
    """The shards, each a Serve application of its own, so that one can come or go alone.

    So is the worker of a rollout.
    """

    def __init__(self, settings: Settings, backends: Backends, version: str) -> None:
        self._settings = settings
        self._backends = backends
        self._version = version
        self._handles: dict[int, DeploymentHandle] = {}

    async def search(
        self, shard: int, queries: Sequence[Query]
    ) -> list[SearchResult | ImageLinkError]:
        """Answers a scan's queries from one replica of a shard, or says that none answers."""
        return await self._answers(shard, "search", queries)

    async def search_in_background(
        self, shard: int, queries: Sequence[Query]
    ) -> list[SearchResult | ImageLinkError]:
        """Answers queries that no scan waits for, as ``search`` does, behind those of scans."""
        return await self._answers(shard, "search_in_background", queries)

    async def _answers(
        self, shard: int, method: str, queries: Sequence[Query]
    ) -> list[SearchResult | ImageLinkError]:
        try:
            handle = await self._handle(shard)
            asked = getattr(handle, method).remote(queries)
            found: list[SearchResult | ImageLinkError] = await asked
        except LOST as error:
            log.warning("shard does not answer", shard=shard, why=repr(error))
            return [ShardUnavailable(shard=shard)] * len(queries)
        return found

    async def warm(self, shard: int, galleries: Sequence[Generation]) -> None:
        """Has every replica of a shard load galleries. Raises ShardUnavailable."""
        await self._tell(shard, "warm", galleries)

    async def prepare(self, shard: int, former: str, new: str) -> None:
        """Has every replica of a shard load what it has of one model version under another.

        Raises ShardUnavailable.
        """
        await self._tell(shard, "prepare", former, new)

    async def _tell(self, shard: int, method: str, *arguments: object) -> None:
        try:
            handle = await self._handle(shard)
            # A new handle knows no replica yet, and only an ordinary call waits for one.
            await handle.warm.remote([])
            await handle.broadcast(method, *arguments).results_async()
        except (*LOST, RayTaskError) as error:
            log.warning("shard does not load galleries", shard=shard, why=repr(error))
            raise ShardUnavailable(shard=shard) from error

    async def start_worker(self) -> None:
        """Starts the worker of a rollout where it does not run."""
        if await asyncio.to_thread(_application_status, WORKER) is None:
            # To start takes seconds of a core too, but at the lowest priority it might take so long
            # on a busy machine that Ray gives it up.
            python = f"nice -n {NICENESS} {shlex.quote(sys.executable)}"
            deployment = RolloutWorker.options(
                ray_actor_options={"num_cpus": 0, "runtime_env": {"py_executable": python}}
            )
            worker = deployment.bind(self._settings, self._backends, self._version)
            target = serve.RunTarget(worker, WORKER, route_prefix=None)
            await asyncio.to_thread(serve.run_many, [target], wait_for_applications_running=False)

    async def stop_worker(self) -> None:
        """Ends the worker of a rollout where it runs."""
        if await asyncio.to_thread(_application_status, WORKER) is not None:
            await asyncio.to_thread(serve.delete, WORKER)

    async def start(self, shard: int) -> None:
        """Starts a shard's application where it does not run. Raises ShardUnavailable."""
        if await asyncio.to_thread(_application_status, _shard_application(shard)) is None:
            target = _shard_target(self._settings, self._backends, self._version, shard)
            await asyncio.to_thread(serve.run_many, [target], wait_for_applications_running=False)
        deadline = time.monotonic() + START_SECONDS
        name = _shard_application(shard)
        while await asyncio.to_thread(_application_status, name) is not ApplicationStatus.RUNNING:
            if time.monotonic() > deadline:
                raise ShardUnavailable(shard=shard)
            await asyncio.sleep(0.5)

    async def stop(self, shard: int) -> None:
        """Ends a shard's application where it runs."""
        self._handles.pop(shard, None)
        name = _shard_application(shard)
        if await asyncio.to_thread(_application_status, name) is not None:
            await asyncio.to_thread(serve.delete, name)

    async def _handle(self, shard: int) -> DeploymentHandle:
        if shard not in self._handles:
            name = _shard_application(shard)
            self._handles[shard] = await asyncio.to_thread(serve.get_app_handle, name)
        return self._handles[shard]


def start(settings: Settings, backends: Backends, version: str, shards: Sequence[int]) -> None:
    """Starts a Ray of this machine and the applications on it, with the version in service."""
    replicas = settings.scanners + (len(shards) + MORE_SHARDS) * settings.shard_replicas
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, replicas),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        grpc_options=gRPCOptions(port=settings.grpc_port, grpc_servicer_functions=SERVICERS),
        http_options={"host": "127.0.0.1", "port": settings.http_port},
    )
    scanner = Scanner.options(num_replicas=settings.scanners, **limits(settings))
    ingress = serve.RunTarget(scanner.bind(settings, backends, version), APPLICATION)
    targets = [_shard_target(settings, backends, version, shard) for shard in shards]
    serve.run_many([ingress, *targets])


def stop() -> None:
    """Stops the applications and their Ray."""
    serve.shutdown()
    ray.shutdown()


def _bundles(backends: Backends) -> BundleStore:
    return BundleStore(BlobStore.from_url(backends.blob_url), backends.bundles)


def _shard_target(
    settings: Settings, backends: Backends, version: str, shard: int
) -> serve.RunTarget:
    deployment = GalleryShard.options(num_replicas=settings.shard_replicas, **limits(settings))
    # Without a route no request from outside comes here, and HAProxy does not know of it.
    return serve.RunTarget(
        deployment.bind(settings, backends, version), _shard_application(shard), route_prefix=None
    )


def _shard_application(shard: int) -> str:
    return f"shard-{shard}"


def _application_status(name: str) -> ApplicationStatus | None:
    found = serve.status().applications.get(name)
    return None if found is None else found.status


def queue_limits(settings: Settings) -> QueueLimits:
    """How scans wait in a scanner."""
    return QueueLimits(
        settings.batches_at_once,
        settings.batch_size,
        settings.max_waiting_scans,
        settings.longest_wait_ms / 1000,
    )


def limits(settings: Settings) -> dict[str, Any]:
    """The options of a deployment that bound its queues and its end."""
    return {
        "max_ongoing_requests": settings.max_ongoing_requests,
        "max_queued_requests": settings.max_queued_requests,
        "graceful_shutdown_timeout_s": DRAIN_SECONDS,
    }
