"""What the index finds, how fast, in how much memory, and how soon it has what is new."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.index_choices import descriptor_choices, image_choices
from benchmarks.index_data import DESCRIPTOR_BYTES, KEYPOINTS, Pictures, zipf_sizes
from benchmarks.index_database import fill
from benchmarks.index_freshness import freshness
from benchmarks.index_pgvector import compare
from benchmarks.index_replica import (
    DIMENSION,
    DescriptorMemory,
    Installation,
    cold,
    in_a_process_of_its_own,
    memory,
    resident_bytes,
    throughput,
    write_picture_snapshots,
    write_vector_snapshots,
)
from benchmarks.index_report import PictureReport, Report, VectorReport, tables
from benchmarks.index_server import REPLICAS, add_known, searchable, start_seconds
from benchmarks.json_file import write_json
from benchmarks.local_server import LocalServer
from benchmarks.steps import step
from benchmarks.threads import search_in_one_thread
from indexing.bundle import Bundle, load_bundle
from indexing.migrations import migrate
from server.app import embedded_postgres

console = Console(highlight=False)

SEED = 0
COLD, LARGE = "cold", "large"
SMALL_REFERENCES = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything there is."""

    publishers: int
    images: int
    image_galleries: tuple[int, ...]
    picture_galleries: tuple[int, ...]
    pgvector_queries: int
    cold_references: int
    large_references: int
    small_galleries: int
    busy_seconds: float
    registrations: int


FULL = Scale(
    publishers=10_000,
    images=1_000_000,
    image_galleries=(1000, 10_000, 100_000, 300_000),
    picture_galleries=(10, 100, 1000, 10_000),
    pgvector_queries=1000,
    cold_references=1000,
    large_references=3000,
    small_galleries=500,
    busy_seconds=30,
    registrations=12,
)
SMALL = Scale(
    publishers=1000,
    images=100_000,
    image_galleries=(10_000,),
    picture_galleries=(100,),
    pgvector_queries=200,
    cold_references=1000,
    large_references=300,
    small_galleries=50,
    busy_seconds=2,
    registrations=2,
)


def run(output: Path, bundle: Path, *, small: bool) -> None:
    """Measures everything, prints it, and writes the report."""
    search_in_one_thread()
    scale = SMALL if small else FULL
    with tempfile.TemporaryDirectory(prefix="imagelink-", ignore_cleanup_errors=True) as folder:
        report = _measured(scale, bundle.resolve(), Path(folder))
    write_json(output, report)
    for table in tables(report):
        console.print(table)
    console.print(f"Written to {output}.")


def _measured(scale: Scale, bundle_folder: Path, folder: Path) -> Report:
    bundle = load_bundle(bundle_folder)
    with step(console, "Comparing kinds of indexes"):
        choices = image_choices(scale.image_galleries, DIMENSION, SEED)
        choices += descriptor_choices(bundle, scale.picture_galleries, SEED)
    # Where the server that is started in the end has its data.
    data = folder / "data"
    data.mkdir()
    sizes = _sizes(scale)
    largest = next(iter(sizes))
    with embedded_postgres(data / "postgres") as dsn:
        at = Installation(dsn, folder / "snapshots", bundle_folder)
        with step(console, f"Filling a database with {len(sizes)} publishers"):
            asyncio.run(migrate(dsn))
            fill(dsn, sizes, bundle)
        vectors = _vectors_measured(at, bundle, sizes, scale)
        pictures = _pictures_measured(at, bundle, scale)
        with step(console, "Preparing a server"):
            known = asyncio.run(add_known(dsn, data / "snapshots", bundle, largest, sizes[largest]))
    server = LocalServer(bundle_folder, folder, shard_replicas=REPLICAS)
    try:
        with step(console, "Starting a server until it answers a scan"):
            started = start_seconds(server, known)
        with step(console, "Registering with the server and scanning"):
            searched = searchable(server, scale.registrations)
    finally:
        with step(console, "Stopping the server"):
            server.stop()
    return Report(
        memory_ratio=vectors["memory"]["ratio"],
        start_seconds=started,
        cold_extra_ms=pictures["cold"]["from_snapshot"] - pictures["cold"]["warm"],
        throughput_vs_faiss=vectors["throughput"]["ratio"],
        throughput_vs_pgvector=vectors["pgvector"]["ratio"],
        searchable_p95_seconds=searched["p95_seconds"],
        **vectors,
        **pictures,
        searchable=searched,
        choices=choices,
    )


def _sizes(scale: Scale) -> dict[str, int]:
    sizes = zipf_sizes(scale.publishers, scale.images)
    return {f"publisher-{number:05}": size for number, size in enumerate(sizes)}


def _vectors_measured(
    at: Installation, bundle: Bundle, sizes: dict[str, int], scale: Scale
) -> VectorReport:
    publishers, largest = list(sizes), next(iter(sizes))
    with step(console, f"Writing snapshots of {sum(sizes.values())} vectors"):
        write_vector_snapshots(at, bundle, sizes, SEED)
    with step(console, "Loading them all"):
        weighed = in_a_process_of_its_own(memory, at, sizes)
    with step(console, "Searching through a shard and in FAISS alone"):
        compared = in_a_process_of_its_own(throughput, at, largest)
    with step(console, "Searching through a shard and in pgvector"):
        # A tenth of the publishers, of all sizes.
        some = publishers[5::10]
        beside = in_a_process_of_its_own(compare, at, some, scale.pgvector_queries)
    return VectorReport(memory=weighed, throughput=compared, pgvector=beside)


def _pictures_measured(at: Installation, bundle: Bundle, scale: Scale) -> PictureReport:
    pictures = Pictures(bundle, SEED)
    small = [f"small-{number:05}" for number in range(scale.small_galleries)]
    with step(console, "Writing snapshots of pictures with all their features"):
        galleries = {
            COLD: list(pictures.draw(scale.cold_references)),
            LARGE: list(pictures.draw(scale.large_references)),
            **{name: list(pictures.draw(SMALL_REFERENCES)) for name in small},
        }
        fill(at.dsn, {name: len(each) for name, each in galleries.items()}, bundle)
        write_picture_snapshots(at, bundle, galleries)
    with step(console, "Weighing galleries with descriptors"):
        weighed = _descriptor_memory(at, scale, small)
    with step(console, "Scanning a gallery that is not loaded"):
        first = in_a_process_of_its_own(cold, at, COLD, galleries[COLD])
    with step(console, "Scanning while another process registers"):
        busy = in_a_process_of_its_own(freshness, at, COLD, galleries[COLD], scale.busy_seconds)
    return PictureReport(descriptor_memory=weighed, cold=first, freshness=busy)


def _descriptor_memory(at: Installation, scale: Scale, small: list[str]) -> DescriptorMemory:
    large = in_a_process_of_its_own(resident_bytes, at, [small[0], LARGE])
    gallery = in_a_process_of_its_own(resident_bytes, at, small)
    # Each descriptor with an id of 8 bytes.
    bare = sum(count * (DESCRIPTOR_BYTES[channel] + 8) for channel, count in KEYPOINTS.items())
    return DescriptorMemory(
        per_reference=large / scale.large_references,
        of_descriptors_per_reference=bare,
        per_small_gallery=gallery,
        overhead_of_small_gallery=gallery - SMALL_REFERENCES * bare,
    )
