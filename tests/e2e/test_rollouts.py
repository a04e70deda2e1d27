"""A model version that takes the place of another on the real server, while it scans."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import pytest
from imagelink.v1 import model_pb2 as pb
from imagelink.v1.model_pb2_grpc import ModelsStub

from benchmarks.another_model import write_bundle
from indexing.bundle import DEFAULT_BUNDLE, MANIFEST, TENSORS, load_bundle
from server.background import NICENESS
from tests.e2e.harness import RunningServer, Tenant, bearer, refused
from tests.e2e.pictures import artworks, encoded, photo_of

Code = grpc.StatusCode
LINK = "https://example.com/"
CHUNK = 1024 * 1024
# The worker of a rollout loads PyTorch, and yields to everything else.
READY_SECONDS = 120.0


@dataclass
class Operator:
    """The methods of the service Models, with the operator's key."""

    stub: ModelsStub
    metadata: tuple[tuple[str, str], ...]

    def register(self, folder: Path, tensors: bytes | None = None) -> pb.Model:
        files = (
            (pb.MODEL_FILE_MANIFEST, (folder / MANIFEST).read_bytes()),
            (pb.MODEL_FILE_TENSORS, tensors or (folder / TENSORS).read_bytes()),
        )
        requests = [
            pb.RegisterModelRequest(file=file, chunk=data[start : start + CHUNK])
            for file, data in files
            for start in range(0, len(data), CHUNK)
        ]
        return self.stub.RegisterModel(iter(requests), metadata=self.metadata)

    def start(self, model: str, **options: float) -> pb.Rollout:
        request = pb.StartRolloutRequest(model=model, **options)
        return self.stub.StartRollout(request, metadata=self.metadata)

    def get(self, name: str) -> pb.Rollout:
        return self.stub.GetRollout(pb.GetRolloutRequest(name=name), metadata=self.metadata)

    def activate(self, name: str, **options: object) -> pb.Rollout:
        request = pb.ActivateRolloutRequest(name=name, **options)  # type: ignore[arg-type]
        return self.stub.ActivateRollout(request, metadata=self.metadata)

    def roll_back(self, name: str) -> pb.Rollout:
        request = pb.RollbackRolloutRequest(name=name)
        return self.stub.RollbackRollout(request, metadata=self.metadata)

    def end(self, name: str) -> pb.Rollout:
        return self.stub.EndRollout(pb.EndRolloutRequest(name=name), metadata=self.metadata)

    def preview(self, name: str) -> pb.PreviewRolloutResponse:
        request = pb.PreviewRolloutRequest(name=name)
        return self.stub.PreviewRollout(request, metadata=self.metadata)

    def delete(self, name: str) -> None:
        self.stub.DeleteModel(pb.DeleteModelRequest(name=name), metadata=self.metadata)

    def models(self) -> list[pb.Model]:
        return list(self.stub.ListModels(pb.ListModelsRequest(), metadata=self.metadata).models)

    def model(self, name: str) -> pb.Model:
        return self.stub.GetModel(pb.GetModelRequest(name=name), metadata=self.metadata)

    def ready(self, rollout: pb.Rollout) -> pb.Rollout:
        """Waits until publishers can be switched."""
        wait_for(lambda: self.get(rollout.name).state != pb.ROLLOUT_STATE_BACKFILLING)
        wait_for(lambda: self.get(rollout.name).state != pb.ROLLOUT_STATE_EVALUATING)
        return self.get(rollout.name)


@dataclass
class Traffic:
    """Scans and registrations without pause, and what became of them."""

    tenant: Tenant
    photo: bytes
    models: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Traffic":
        self._threads = [threading.Thread(target=each) for each in (self._scan, self._register)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _scan(self) -> None:
        while not self.over.wait(0.02):
            try:
                found = self.tenant.client.scan(self.photo)
            except Exception as error:
                self.problems.append(repr(error))
                continue
            self.models.append(found.model_version)
            if not found or not found.best.reference.endswith("/poster-0"):
                self.problems.append(f"answered {found}")

    def _register(self) -> None:
        for number in range(1000):
            if self.over.wait(0.5):
                return
            name = f"more-{number}"
            try:
                self.tenant.client.register(
                    encoded(artworks()[3 + number % 6]), link=LINK, reference_id=name
                )
            except Exception as error:
                self.problems.append(repr(error))
                continue
            self.registered.append(name)


def wait_for(done: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


@pytest.fixture
def operator(own_server: RunningServer) -> Iterator[Operator]:
    with grpc.insecure_channel(own_server.target) as channel:
        yield Operator(ModelsStub(channel), bearer(own_server.operator_key))


@pytest.fixture
def tenant(own_server: RunningServer) -> Iterator[Tenant]:
    """The only publisher: the gate looks at the galleries of all."""
    tenant = own_server.tenant()
    for number, picture in enumerate(artworks()[:3]):
        tenant.client.register(encoded(picture), link=LINK, reference_id=f"poster-{number}")
    yield tenant
    own_server.operator.delete_publisher(tenant.id)


def test_bundles_that_cannot_be_used_change_nothing(operator: Operator, tmp_path: Path) -> None:
    before = operator.models()
    write_bundle(tmp_path / "another")
    stored = (tmp_path / "another" / TENSORS).read_bytes()
    with refused(Code.INVALID_ARGUMENT, "BUNDLE_INVALID", "chunk"):
        operator.register(tmp_path / "another", stored[:-1] + bytes([stored[-1] ^ 1]))
    with refused(Code.INVALID_ARGUMENT, "BUNDLE_INVALID", "chunk"):
        # What a pickle begins with.
        operator.register(tmp_path / "another", b"\x80\x04\x95" + stored)
    for old, new in (
        ('"resnet18"', '"nothing_known"'),
        ('"resnet18"', '"resnet50"'),
        ('"dimension": 64', '"dimension": 65'),
        ('"format": 4', '"format": 1'),
    ):
        folder = tmp_path / new.strip('"').replace(" ", "-")
        folder.mkdir()
        manifest = (tmp_path / "another" / MANIFEST).read_text().replace(old, new)
        (folder / MANIFEST).write_text(manifest)
        (folder / TENSORS).write_bytes(stored)
        with refused(Code.INVALID_ARGUMENT, "BUNDLE_INVALID", "chunk"):
            operator.register(folder)
    assert operator.models() == before
    with refused(Code.NOT_FOUND, "MODEL_NOT_FOUND"):
        operator.start("models/unknown")
    with refused(Code.NOT_FOUND, "ROLLOUT_NOT_FOUND"):
        operator.get("rollouts/unknown")


def test_a_worse_model_is_stopped_by_the_gate_and_then_by_the_watch(
    own_server: RunningServer, operator: Operator, tenant: Tenant, tmp_path: Path
) -> None:
    own_server.operator.update_publisher(tenant.id, max_kept_scans=100)
    worse = write_bundle(tmp_path / "worse", name="worse", decides=False)
    operator.register(tmp_path / "worse")
    photo = encoded(photo_of(artworks()[0]).photo)
    for _ in range(60):
        assert tenant.client.scan(photo)
    kept = own_server.data / "blobs" / "scans" / tenant.id
    wait_for(lambda: kept.exists() and bool(list(kept.iterdir())), 10.0)

    ready = operator.ready(operator.start(f"models/{worse}"))
    assert (ready.state, ready.gate_passed) == (pb.ROLLOUT_STATE_READY, False)
    preview = operator.preview(ready.name)
    assert not preview.passed
    assert preview.negative_flips[0].reference.startswith(tenant.name)
    scans = preview.kept_scans
    assert 1 <= scans.scan_count == scans.lost_count
    (flip, *_) = [flip for flip in preview.negative_flips if flip.view == "kept scan"]
    assert (flip.reference, flip.answer) == (f"{tenant.name}/references/poster-0", "")
    with refused(Code.FAILED_PRECONDITION, "GATE_FAILED"):
        operator.activate(ready.name)

    forced = operator.activate(ready.name, force=True)
    assert (forced.state, forced.forced) == (pb.ROLLOUT_STATE_ACTIVE, True)
    wait_for(lambda: tenant.client.scan(photo).model_version == worse, 2.0)
    for _ in range(60):
        tenant.client.scan(photo)
    wait_for(lambda: operator.get(ready.name).state == pb.ROLLOUT_STATE_READY, 30.0)
    assert "find something fell" in operator.get(ready.name).problem
    wait_for(lambda: bool(tenant.client.scan(photo)), 5.0)
    assert operator.end(ready.name).state == pb.ROLLOUT_STATE_CANCELLED


def test_a_model_goes_live_and_back_without_anybody_noticing(
    own_server: RunningServer, operator: Operator, tenant: Tenant, tmp_path: Path
) -> None:
    default = load_bundle(DEFAULT_BUNDLE).version
    another = write_bundle(tmp_path / "another")
    photo = encoded(photo_of(artworks()[0]).photo)
    assert operator.register(tmp_path / "another").state == pb.MODEL_STATE_UPLOADED

    with Traffic(tenant, photo) as traffic:
        started = operator.start(f"models/{another}", shadow_share=1.0)
        with refused(Code.FAILED_PRECONDITION, "ROLLOUT_UNDER_WAY"):
            operator.start(f"models/{another}")
        # Of whatever the worker has done nothing is lost with it.
        wait_for(lambda: bool(workers(own_server)))
        (worker,) = workers(own_server)
        # While it starts too.
        assert worker.nice() >= NICENESS
        worker.kill()

        ready = operator.ready(started)
        assert ready.state == pb.ROLLOUT_STATE_READY, ready
        assert ready.backfill.failed_count == 0
        assert set(traffic.models) == {default}

        wait_for(lambda: operator.get(started.name).shadow.agreed_count > 0)
        force = not ready.gate_passed  # An untrained network may lose views.
        canary = operator.activate(started.name, publishers=[tenant.name], force=force)
        assert (canary.state, canary.publisher_count) == (pb.ROLLOUT_STATE_CANARY, 1)
        wait_for(lambda: traffic.models[-1] == another, 2.0)
        with refused(Code.FAILED_PRECONDITION, "MODEL_IN_USE"):
            operator.delete(f"models/{another}")

        back = operator.roll_back(started.name)
        assert back.state == pb.ROLLOUT_STATE_READY
        wait_for(lambda: traffic.models[-1] == default, 2.0)

        active = operator.activate(started.name, force=force)
        assert active.state == pb.ROLLOUT_STATE_ACTIVE
        wait_for(lambda: traffic.models[-1] == another, 2.0)
        time.sleep(2.0)

    assert traffic.problems == []
    assert len(traffic.registered) > 3
    for name in traffic.registered:
        assert tenant.client.get_reference(f"{tenant.name}/references/{name}").active
    for name, picture in (("poster-1", artworks()[1]), ("poster-2", artworks()[2])):
        found = tenant.client.scan(encoded(photo_of(picture).photo))
        assert found.model_version == another
        assert found.best.reference.endswith(name)

    assert operator.end(started.name).state == pb.ROLLOUT_STATE_COMPLETED
    with refused(Code.FAILED_PRECONDITION, "ROLLOUT_STATE_INVALID"):
        operator.roll_back(started.name)
    assert operator.model(f"models/{default}").state == pb.MODEL_STATE_RETIRED
    operator.delete(f"models/{default}")

    # The next start serves what was activated, whatever bundle it is given.
    own_server.stop()
    own_server.start()
    client = own_server.client(tenant.publish_key)
    assert client.scan(photo).model_version == another


def workers(server: RunningServer) -> list[psutil.Process]:
    return [each for each in server.processes() if "RolloutWorker" in " ".join(each.cmdline())]
