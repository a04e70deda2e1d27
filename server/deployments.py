"""The Ray Serve deployments, and how they are started: the only file that knows Ray."""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

import cv2
import faiss
import ray
import torch
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.handle import DeploymentHandle

from indexing.blobs import BlobStore
from indexing.bundle import load_bundle
from indexing.errors import ImageLinkError
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.recognition import Photo, Recogniser
from indexing.replica import ShardReplica
from indexing.shard import Query, SearchResult, Shard
from server.assessment import Assessor
from server.auth import Authenticator
from server.explanation import Explainer
from server.registration import Registrar
from server.scanning import Outcome, Scanning, ShardedRecogniser, ShardSearch
from server.service import Services
from server.settings import Backends, Settings

APPLICATION = "imagelink"
# Batches of features travel inline; the object store only needs room for what Ray itself puts.
DRAIN_SECONDS = 5
OBJECT_STORE_BYTES = 256 * 1024 * 1024
SERVICERS = [
    "imagelink.v1.recognition_pb2_grpc.add_RecognitionServicer_to_server",
    "imagelink.v1.gallery_pb2_grpc.add_GalleryServicer_to_server",
    "imagelink.v1.publisher_pb2_grpc.add_PublishersServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
]


def _one_thread_per_request() -> None:
    # Requests run side by side in threads; libraries that thread each one too would only contend.
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)


@serve.deployment(health_check_period_s=5)
class GalleryShard:
    """One replica of a gallery shard."""

    async def __init__(self, settings: Settings, backends: Backends) -> None:
        _one_thread_per_request()
        bundle = await asyncio.to_thread(load_bundle, settings.bundle)
        pool = await open_pool(backends.database_url, settings.database_connections)
        self._replica = ShardReplica(Shard(bundle), GalleryStore(pool), bundle.version)
        self._following = asyncio.create_task(self._replica.follow())

    async def search(self, queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        """Answers the queries of a batch."""
        return await self._replica.search(queries)

    async def check_health(self) -> None:
        """Fails where the replica no longer follows the changes."""
        if self._following.done():
            self._following.result()


@serve.deployment(health_check_period_s=5)
class Scanner(Services):
    """The ingress: one replica of the API, with the model in it."""

    async def __init__(
        self, settings: Settings, backends: Backends, shards: Sequence[DeploymentHandle]
    ) -> None:
        _one_thread_per_request()
        bundle = await asyncio.to_thread(load_bundle, settings.bundle)
        store = GalleryStore(await open_pool(backends.database_url, settings.database_connections))
        searches = [_search(shard) for shard in shards]
        self._recogniser = ShardedRecogniser(Recogniser(bundle), searches)
        self._recognise.set_max_batch_size(settings.batch_size)
        self._recognise.set_batch_wait_timeout_s(settings.batch_wait_ms / 1000)
        blobs = BlobStore.from_url(backends.blob_url)
        scanning = Scanning(self._recognise)
        super().__init__(
            Authenticator(store, backends.operator_key),
            store,
            Registrar(store, blobs, FeatureExtractor(bundle)),
            scanning,
            Explainer(scanning, store, blobs, bundle.calibration),
            Assessor(bundle, searches),
            bundle.version,
        )

    @serve.batch(max_concurrent_batches=2)
    async def _recognise(self, photos: list[Photo]) -> list[Outcome]:
        return await self._recogniser.recognise(photos)


def _search(shard: DeploymentHandle) -> ShardSearch:
    async def search(queries: Sequence[Query]) -> list[SearchResult | ImageLinkError]:
        found: list[SearchResult | ImageLinkError] = await shard.search.remote(queries)
        return found

    return search


def start(settings: Settings, backends: Backends) -> None:
    """Starts a Ray of this machine and the application on it."""
    replicas = settings.scanners + settings.shards * settings.shard_replicas
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
    serve.run(_application(settings, backends), name=APPLICATION, route_prefix="/")


def stop() -> None:
    """Stops the application and its Ray."""
    serve.shutdown()
    ray.shutdown()


def _application(settings: Settings, backends: Backends) -> serve.Application:
    limits: dict[str, Any] = {
        "max_ongoing_requests": settings.max_ongoing_requests,
        "max_queued_requests": settings.max_queued_requests,
        "graceful_shutdown_timeout_s": DRAIN_SECONDS,
    }
    shards = [
        GalleryShard.options(
            name=f"GalleryShard-{number}", num_replicas=settings.shard_replicas, **limits
        ).bind(settings, backends)
        for number in range(settings.shards)
    ]
    scanner = Scanner.options(num_replicas=settings.scanners, **limits)
    return scanner.bind(settings, backends, shards)
