"""Shards that join and drain, pins and parts, a database that goes away: the server scans on."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import psutil
import pytest
from imagelink import Client, ImageLinkError, ShardState, Unavailable

from tests.conftest import Postgres, running_postgres
from tests.e2e.harness import RunningServer, Tenant, refused, serving
from tests.e2e.pictures import artworks, encoded, photo_of

Code = grpc.StatusCode
LINK = "https://example.com/"
SHARDS = 2
PART_IMAGES = 3
# A new shard loads PyTorch; a gallery that has grown is looked for every half minute.
JOIN_SECONDS = 60.0
SPLIT_SECONDS = 60.0
# Within so many seconds every scanner knows of a change.
KNOWN_SECONDS = 3.0
RECOVERY_SECONDS = 10


@pytest.fixture(scope="module")
def postgres_beside() -> Iterator[Postgres]:
    """The server's PostgreSQL, which is not its own, so that a test may stop and start it."""
    with running_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def sharded(postgres_beside: Postgres) -> Iterator[RunningServer]:
    """A server of two shards that splits galleries of more than three images."""
    settings = {
        "IMAGELINK_DATABASE_URL": postgres_beside.create_database(),
        "IMAGELINK_SHARDS": str(SHARDS),
        "IMAGELINK_PART_IMAGES": str(PART_IMAGES),
    }
    with serving(environment=settings) as running:
        yield running


@pytest.fixture
def operator(sharded: RunningServer) -> Client:
    return sharded.operator


def registered(server: RunningServer, count: int) -> Tenant:
    """A publisher with so many references."""
    tenant = server.tenant()
    for number, picture in enumerate(artworks()[:count]):
        tenant.client.register(encoded(picture), link=LINK, reference_id=f"poster-{number}")
    return tenant


def found(tenant: Tenant, number: int) -> list[str]:
    """What a scan of a photo of one of the references finds."""
    photo = encoded(photo_of(artworks()[number], seed=number).photo)
    return [match.reference_id for match in tenant.client.scan(photo).matches]


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"It took more than {seconds} s."
        time.sleep(0.2)


def shards_of(operator: Client, tenant: Tenant) -> list[int]:
    parts = operator.get_placement(tenant.id).parts
    return [int(part.shard.rpartition("/")[2]) for part in parts]


def state_of(operator: Client, shard: int) -> ShardState:
    return operator.list_shards()[shard].state


def processes_of(server: RunningServer, shard: int) -> list[psutil.Process]:
    found = []
    for process in server.processes():
        with suppress(psutil.Error):
            if f":shard-{shard}:" in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextmanager
def scanning(tenants: list[Tenant]) -> Iterator[list[str]]:
    """Scans of all publishers without a pause; yields what went wrong."""
    problems: list[str] = []
    stopped = threading.Event()

    def scan(tenant: Tenant) -> int:
        scans = 0
        while not stopped.is_set():
            try:
                if (answer := found(tenant, 0)) != ["poster-0"]:
                    problems.append(f"{tenant.id}: {answer}")
            except Exception as error:
                problems.append(f"{tenant.id}: {error!r}")
            scans += 1
        return scans

    with ThreadPoolExecutor(len(tenants)) as threads:
        counts = [threads.submit(scan, tenant) for tenant in tenants]
        try:
            yield problems
        finally:
            stopped.set()
    assert all(count.result() > 0 for count in counts)


def test_scans_go_on_while_postgresql_is_away(
    sharded: RunningServer, postgres_beside: Postgres
) -> None:
    tenant, other = sharded.tenant(), sharded.tenant()
    picture = artworks()[0]
    photo = encoded(photo_of(picture).photo)
    written = tenant.client.register(encoded(picture), link=LINK, reference_id="poster")
    tenant.client.scan(photo, min_gallery_version=written.gallery_version)

    postgres_beside.stop()
    # Past the time in which a key that was looked up is not looked up again.
    away_until = time.monotonic() + 7
    while time.monotonic() < away_until:
        start = time.monotonic()
        result = tenant.client.scan(photo, timeout=10)
        assert time.monotonic() - start < 3
        assert [match.reference_id for match in result.matches] == ["poster"]
        assert result.gallery_version == written.gallery_version
    with pytest.raises(Unavailable) as refused:
        tenant.client.register(encoded(artworks()[1]), link=LINK, reference_id="refused")
    assert refused.value.reason == "DATABASE_UNAVAILABLE"
    assert refused.value.retry_after
    # Neither its key nor its gallery was ever looked up.
    with pytest.raises(Unavailable):
        other.client.scan(photo)

    postgres_beside.start()
    started = time.monotonic()
    while time.monotonic() < started + RECOVERY_SECONDS:
        with suppress(ImageLinkError):
            tenant.client.register(encoded(artworks()[1]), link=LINK, reference_id="second")
            break
    second = encoded(photo_of(artworks()[1]).photo)
    version = written.gallery_version + 1
    found = tenant.client.scan(second, min_gallery_version=version)
    assert [match.reference_id for match in found.matches] == ["second"]
    assert time.monotonic() - started < RECOVERY_SECONDS
    assert {each.id for each in tenant.client.list_references()} == {"poster", "second"}
    assert not other.client.scan(photo)


def test_what_cannot_be_placed_is_refused(sharded: RunningServer, operator: Client) -> None:
    tenant = registered(sharded, 1)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
        operator.drain_shard("shards/one")
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
        operator.drain_shard(2**31)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "name"):
        operator.get_placement("galleries/acme")
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "shard"):
        operator.pin_publisher(tenant.id, "")
    with refused(Code.NOT_FOUND, "SHARD_NOT_FOUND"):
        operator.drain_shard(99)
    with refused(Code.NOT_FOUND, "SHARD_NOT_FOUND"):
        operator.pin_publisher(tenant.id, 99)
    for call in (operator.get_placement, operator.unpin_publisher):
        with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
            call("nobody")
    with refused(Code.NOT_FOUND, "PUBLISHER_NOT_FOUND"):
        operator.pin_publisher("nobody", 0)
    with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        tenant.client.list_shards()


def test_a_pinned_publisher_is_found_and_holds_its_shard(
    sharded: RunningServer, operator: Client
) -> None:
    tenant = registered(sharded, 1)
    (home,) = shards_of(operator, tenant)
    with scanning([tenant]) as problems:
        assert operator.pin_publisher(tenant.id, 1 - home).pinned
        time.sleep(KNOWN_SECONDS)
        assert shards_of(operator, tenant) == [1 - home]
        with refused(Code.FAILED_PRECONDITION, "SHARD_HAS_PINS"):
            operator.drain_shard(1 - home)
        operator.unpin_publisher(tenant.id)
        time.sleep(KNOWN_SECONDS)
    assert problems == []
    assert shards_of(operator, tenant) == [home]


def test_a_gallery_in_parts_is_one_gallery(sharded: RunningServer, operator: Client) -> None:
    tenant = registered(sharded, PART_IMAGES + 2)
    with scanning([tenant]) as problems:
        wait_until(lambda: len(shards_of(operator, tenant)) == SHARDS, SPLIT_SECONDS)
        time.sleep(KNOWN_SECONDS)
    assert problems == []
    assert sorted(shards_of(operator, tenant)) == [0, 1]
    for number in range(PART_IMAGES + 2):
        assert found(tenant, number) == [f"poster-{number}"]
    gone = tenant.client.delete_reference("poster-4", publisher=tenant.id)
    photo = encoded(photo_of(artworks()[4], seed=4).photo)
    result = tenant.client.scan(photo, min_gallery_version=gone.gallery_version)
    assert result.matches == ()
    assert result.gallery_version == gone.gallery_version


def test_no_scan_fails_while_one_shard_joins_and_another_drains(
    sharded: RunningServer, operator: Client
) -> None:
    tenants = [registered(sharded, 1) for _ in range(6)]
    before = {tenant.id: shards_of(operator, tenant) for tenant in tenants}
    with scanning(tenants[:3]) as problems:
        new = operator.add_shard().number
        wait_until(lambda: state_of(operator, new) is ShardState.ACTIVE, JOIN_SECONDS)
        time.sleep(KNOWN_SECONDS)
        joined = {tenant.id: shards_of(operator, tenant) for tenant in tenants}
        operator.drain_shard(0)
        wait_until(lambda: state_of(operator, 0) is ShardState.DRAINED, JOIN_SECONDS)
        time.sleep(KNOWN_SECONDS)
    assert problems == []
    drained = {tenant.id: shards_of(operator, tenant) for tenant in tenants}
    for tenant in tenants:
        assert joined[tenant.id] in (before[tenant.id], [new])
        assert joined[tenant.id] == [0] or drained[tenant.id] == joined[tenant.id]
        assert drained[tenant.id] != [0]
        assert found(tenant, 0) == ["poster-0"]
    with refused(Code.FAILED_PRECONDITION, "SHARD_NOT_ACTIVE"):
        operator.pin_publisher(tenants[0].id, 0)
    operator.drain_shard(1)
    wait_until(lambda: state_of(operator, 1) is ShardState.DRAINED, JOIN_SECONDS)
    with refused(Code.FAILED_PRECONDITION, "LAST_SHARD"):
        operator.drain_shard(new)
    assert [found(tenant, 0) for tenant in tenants] == [["poster-0"]] * len(tenants)


def test_a_shard_that_dies_is_unavailable_and_comes_back(
    sharded: RunningServer, operator: Client
) -> None:
    tenant = registered(sharded, 1)
    (home,) = shards_of(operator, tenant)
    assert found(tenant, 0) == ["poster-0"]
    (process,) = processes_of(sharded, home)
    process.kill()
    reasons: set[str] = set()

    def answers() -> bool:
        try:
            return found(tenant, 0) == ["poster-0"]
        except Unavailable as error:
            reasons.add(error.reason)
            return False

    wait_until(answers, JOIN_SECONDS)
    assert reasons <= {"SHARD_UNAVAILABLE"}
    assert processes_of(sharded, home) != [process]


def test_a_server_that_starts_again_has_the_shards_that_it_had(sharded: RunningServer) -> None:
    tenant = registered(sharded, 1)
    (home,) = shards_of(sharded.operator, tenant)
    states = [shard.state for shard in sharded.operator.list_shards()]
    tenant_key = tenant.publish_key
    sharded.stop()
    sharded.start()
    again = Tenant(tenant.id, sharded.client(tenant_key), tenant_key, tenant.scan_key)
    assert found(again, 0) == ["poster-0"]
    assert [shard.state for shard in sharded.operator.list_shards()] == states
    assert shards_of(sharded.operator, again) == [home]
    running = {number for number, state in enumerate(states) if state is not ShardState.DRAINED}
    assert {n for n in range(len(states)) if processes_of(sharded, n)} == running
