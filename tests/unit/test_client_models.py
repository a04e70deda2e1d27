"""Model versions and rollouts of the client, against a small real gRPC server."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import imagelink
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from imagelink import AsyncClient, Client, FailedPrecondition, InvalidArgument, Unavailable
from imagelink._archives import CHUNK
from imagelink._channel import METHODS
from imagelink._model_calls import model_state, rollout_state
from imagelink.v1 import model_pb2 as pb
from imagelink.v1.model_pb2_grpc import ModelsServicer, add_ModelsServicer_to_server

from tests.unit.fake_servers import served
from tests.unit.test_client import CODES, KEY, Server, info, refuse

SINCE = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
MANIFEST = b'{"name": "second"}'
TENSORS = bytes(range(256)) * 4096 * 2 + b"end"  # two chunks and a bit
NAME = "rollouts/7"


class ModelServer(Server, ModelsServicer):
    """One model, and a rollout that goes through the ``states``, one at each look.

    A rollout is what ``rollout`` makes of its state; ``gate_passed`` is what the comparison gave.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states = [pb.ROLLOUT_STATE_READY]
        self.gate_passed: bool | None = True
        self.ended = False
        self.kept_scans = pb.KeptScanAgreement(
            scan_count=60, agreed_count=50, lost_count=5, changed_count=2, gained_count=3
        )
        self.files: dict[int, bytes] = {}
        self.chunk_sizes: list[int] = []

    def RegisterModel(self, requests: Any, context: Any) -> Any:
        self.files, self.chunk_sizes = {}, []
        for request in requests:
            self.files[request.file] = self.files.get(request.file, b"") + request.chunk
            self.chunk_sizes.append(len(request.chunk))
            if request.chunk == b"damaged":
                refuse(context, CODES.INVALID_ARGUMENT, "It is damaged.", info("BUNDLE_INVALID"))
        self.receive("RegisterModel", None, context)
        return a_model("models/second")

    def GetModel(self, request: Any, context: Any) -> Any:
        self.receive("GetModel", request, context)
        return a_model(request.name)

    def ListModels(self, request: Any, context: Any) -> Any:
        self.receive("ListModels", request, context)
        return pb.ListModelsResponse(models=[a_model("models/second"), a_model("models/first")])

    def DeleteModel(self, request: Any, context: Any) -> Any:
        self.receive("DeleteModel", request, context)
        if request.name == "models/first":
            refuse(context, CODES.FAILED_PRECONDITION, "It serves.", info("MODEL_IN_USE"))
        return pb.DeleteModelResponse()

    def StartRollout(self, request: Any, context: Any) -> Any:
        self.receive("StartRollout", request, context)
        return self.rollout(pb.ROLLOUT_STATE_BACKFILLING)

    def GetRollout(self, request: Any, context: Any) -> Any:
        self.receive("GetRollout", request, context)
        return self.rollout(self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def ListRollouts(self, request: Any, context: Any) -> Any:
        self.receive("ListRollouts", request, context)
        state = pb.ROLLOUT_STATE_CANCELLED if self.ended else self.states[0]
        latest = self.rollout(state)
        former = self.rollout(pb.ROLLOUT_STATE_COMPLETED)
        former.name = "rollouts/6"
        return pb.ListRolloutsResponse(rollouts=[latest, former])

    def UpdateRollout(self, request: Any, context: Any) -> Any:
        self.receive("UpdateRollout", request, context)
        updated = self.rollout(pb.ROLLOUT_STATE_BACKFILLING)
        updated.paused = request.rollout.paused
        return updated

    def PreviewRollout(self, request: Any, context: Any) -> Any:
        self.receive("PreviewRollout", request, context)
        lost = {"reference": "publishers/acme/references/a", "view": "a clear view"}
        taken = {**lost, "view": "a dark view", "answer": "publishers/acme/references/b"}
        return pb.PreviewRolloutResponse(
            passed=bool(self.gate_passed),
            problems=[] if self.gate_passed else ["It recognises less."],
            former=a_quality(0.95),
            new=a_quality(0.75),
            negative_flips=[lost, taken],  # type: ignore[list-item]
            create_time=since(),
            kept_scans=self.kept_scans,
        )

    def ActivateRollout(self, request: Any, context: Any) -> Any:
        self.receive("ActivateRollout", request, context)
        some = request.publishers or request.percent
        return self.rollout(pb.ROLLOUT_STATE_CANARY if some else pb.ROLLOUT_STATE_ACTIVE)

    def RollbackRollout(self, request: Any, context: Any) -> Any:
        self.receive("RollbackRollout", request, context)
        back = self.rollout(pb.ROLLOUT_STATE_READY)
        back.problem = "Rolled back by the operator."
        return back

    def EndRollout(self, request: Any, context: Any) -> Any:
        self.receive("EndRollout", request, context)
        return self.rollout(pb.ROLLOUT_STATE_COMPLETED)

    def rollout(self, state: Any) -> pb.Rollout:
        backfilling = state == pb.ROLLOUT_STATE_BACKFILLING
        compared = state not in (pb.ROLLOUT_STATE_BACKFILLING, pb.ROLLOUT_STATE_EVALUATING)
        return pb.Rollout(
            name=NAME,
            model="models/second",
            former_model="models/first",
            state=state,
            create_time=since(),
            state_time=since(),
            shadow_share=0.1,
            backfill=pb.Backfill(
                done_count=500 if backfilling else 2000,
                image_count=2000,
                failed_count=3,
                images_per_second=12.5 if backfilling else 0,
                time_left=Duration(seconds=120) if backfilling else None,
            ),
            publisher_count=2 if state == pb.ROLLOUT_STATE_CANARY else 0,
            gate_passed=self.gate_passed if compared else None,
            problem="A picture is lost." if state == pb.ROLLOUT_STATE_FAILED else "",
            shadow=pb.ShadowAgreement(
                scan_count=200, agreed_count=190, former_only_count=7, new_only_count=3
            ),
            rates=some_rates(30, 0.5),
            former_rates=some_rates(1000, 0.625),
        )


def a_model(name: str) -> pb.Model:
    return pb.Model(
        name=name,
        state=pb.MODEL_STATE_UPLOADED,
        architecture="resnet18",
        dimension=64,
        parent="first",
        trained_on="drawn pictures",
        code_commit="abc123",
        metrics={"recall": 0.97},
        create_time=since(),
        size_bytes=3_500_000,
    )


def a_quality(recall: float) -> pb.VersionQuality:
    return pb.VersionQuality(
        view_count=400,
        recall=recall,
        false_accept_rate=0.0025,
        calibration_error=0.125,
        mean_latency=Duration(nanos=31_500_000),
    )


def some_rates(scans: int, matched: float) -> pb.ScanRates:
    latency = Duration(nanos=40_000_000)
    return pb.ScanRates(scan_count=scans, match_rate=matched, mean_latency=latency)


def since() -> Timestamp:
    time = Timestamp()
    time.FromDatetime(SINCE)
    return time


def write_bundle(folder: Path, tensors: bytes = TENSORS) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_bytes(MANIFEST)
    (folder / "model.safetensors").write_bytes(tensors)
    return folder


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with served(ModelServer(), add_ModelsServicer_to_server) as servicer:
        yield servicer


@pytest.fixture
def client(server: ModelServer) -> Iterator[Client]:
    with Client(server.target, key=KEY) as client:
        yield client


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "second")


# What is called


def test_every_method_of_the_service_has_its_call() -> None:
    service = pb.DESCRIPTOR.services_by_name["Models"]
    expected = {
        f"/{service.full_name}/{method.name}": method.output_type.full_name
        for method in service.methods
    }
    called = [each for each in METHODS if each.service == "Models"]
    assert {each.path: each.answer.DESCRIPTOR.full_name for each in called} == expected


def test_every_state_of_the_api_has_its_value() -> None:
    model_states = set(map(model_state, pb.ModelState.values()))
    assert model_states == set(imagelink.ModelState)
    rollout_states = set(map(rollout_state, pb.RolloutState.values()))
    assert rollout_states == set(imagelink.RolloutState)
    assert model_state(999) is imagelink.ModelState.UNKNOWN
    assert rollout_state(999) is imagelink.RolloutState.UNKNOWN


# Models


def test_a_bundle_is_sent_file_by_file_in_chunks(
    server: ModelServer, client: Client, bundle: Path
) -> None:
    registered = client.register_model(bundle)
    assert server.files == {pb.MODEL_FILE_MANIFEST: MANIFEST, pb.MODEL_FILE_TENSORS: TENSORS}
    assert list(server.files) == [pb.MODEL_FILE_MANIFEST, pb.MODEL_FILE_TENSORS]
    assert server.chunk_sizes == [len(MANIFEST), CHUNK, CHUNK, 3]
    assert registered.version == "second"


@pytest.mark.parametrize("missing", ["manifest.json", "model.safetensors"])
def test_a_folder_that_is_no_bundle_is_refused_before_any_call(
    server: ModelServer, client: Client, bundle: Path, missing: str
) -> None:
    (bundle / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {missing}"):
        client.register_model(bundle)
    assert server.files == {}


def test_a_refused_bundle_is_an_error(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.register_model(write_bundle(tmp_path / "damaged", b"damaged"))
    assert caught.value.reason == "BUNDLE_INVALID"


def test_a_bundle_is_sent_again_whole_while_the_server_is_unavailable(
    server: ModelServer, client: Client, bundle: Path
) -> None:
    server.unavailable["RegisterModel"] = 1
    client.register_model(bundle)
    assert server.calls["RegisterModel"] == 2
    assert server.files[pb.MODEL_FILE_TENSORS] == TENSORS


def test_a_model_has_its_values(server: ModelServer, client: Client) -> None:
    assert client.get_model("second") == imagelink.Model(
        name="models/second",
        state=imagelink.ModelState.UPLOADED,
        architecture="resnet18",
        dimension=64,
        parent="first",
        trained_on="drawn pictures",
        code_commit="abc123",
        metrics={"recall": 0.97},
        create_time=SINCE,
        size_bytes=3_500_000,
    )
    assert server.last().name == "models/second"
    assert client.get_model("models/second") == client.get_model("second")


def test_models_are_listed_and_deleted(server: ModelServer, client: Client) -> None:
    assert [each.version for each in client.list_models()] == ["second", "first"]
    client.delete_model("second")
    assert server.last().name == "models/second"
    with pytest.raises(FailedPrecondition) as caught:
        client.delete_model("first")
    assert caught.value.reason == "MODEL_IN_USE"


# Rollouts


def test_a_rollout_has_its_values(server: ModelServer, client: Client) -> None:
    started = client.start_rollout("second", max_images_per_second=20, shadow_share=0.1)
    expected = pb.StartRolloutRequest(
        model="models/second", max_images_per_second=20, shadow_share=0.1
    )
    assert server.last() == expected
    assert started == imagelink.Rollout(
        name=NAME,
        model="models/second",
        former_model="models/first",
        state=imagelink.RolloutState.BACKFILLING,
        create_time=SINCE,
        state_time=SINCE,
        paused=False,
        max_images_per_second=0,
        shadow_share=0.1,
        backfill=imagelink.Backfill(500, 2000, 3, 12.5, 120.0),
        publisher_count=0,
        gate_passed=None,
        forced=False,
        problem="",
        shadow=imagelink.ShadowAgreement(200, 190, 7, 3),
        rates=imagelink.ScanRates(30, 0.5, 0.04),
        former_rates=imagelink.ScanRates(1000, 0.625, 0.04),
    )
    assert (started.id, started.version, started.former_version) == ("7", "second", "first")


def test_what_was_not_measured_is_none(server: ModelServer, client: Client) -> None:
    server.gate_passed = False
    ready = client.get_rollout("7")
    assert server.last().name == NAME
    assert (ready.gate_passed, ready.backfill.seconds_left) == (False, None)


def test_a_rollout_has_ended_or_not(client: Client) -> None:
    assert [each.state.ended for each in client.list_rollouts()] == [False, True]
    ended = {state for state in imagelink.RolloutState if state.ended}
    assert ended == {"completed", "cancelled", "failed"}


def test_only_what_is_given_of_a_rollout_is_changed(server: ModelServer, client: Client) -> None:
    assert client.update_rollout("7", paused=True).paused
    assert list(server.last().update_mask.paths) == ["paused"]
    client.update_rollout(NAME, max_images_per_second=0, shadow_share=0)
    assert server.last().rollout.name == NAME
    assert set(server.last().update_mask.paths) == {"max_images_per_second", "shadow_share"}
    client.update_rollout("7", paused=False)
    assert list(server.last().update_mask.paths) == ["paused"]


def test_a_preview_names_what_flips(server: ModelServer, client: Client) -> None:
    server.gate_passed = False
    former, new = (imagelink.VersionQuality(400, it, 0.0025, 0.125, 0.0315) for it in (0.95, 0.75))
    a, b = (f"publishers/acme/references/{each}" for each in "ab")
    assert client.preview_rollout("7") == imagelink.RolloutPreview(
        passed=False,
        problems=("It recognises less.",),
        former=former,
        new=new,
        negative_flips=(
            imagelink.NegativeFlip(a, "a clear view", ""),
            imagelink.NegativeFlip(a, "a dark view", b),
        ),
        create_time=SINCE,
        kept_scans=imagelink.KeptScanAgreement(60, 50, 5, 2, 3),
    )


def test_some_publishers_are_switched_or_all(server: ModelServer, client: Client) -> None:
    some = client.activate_rollout("7", publishers=["acme", "publishers/other"], percent=5)
    assert some.state is imagelink.RolloutState.CANARY
    assert list(server.last().publishers) == ["publishers/acme", "publishers/other"]
    assert (server.last().percent, server.last().force) == (5, False)
    assert client.activate_rollout("7", force=True).state is imagelink.RolloutState.ACTIVE
    assert server.last() == pb.ActivateRolloutRequest(name=NAME, force=True)


@pytest.mark.parametrize("nobody", [{"publishers": []}, {"percent": 0}, {"percent": 101}])
def test_nobody_never_means_everybody(
    server: ModelServer, client: Client, nobody: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="switch"):
        client.activate_rollout("7", **nobody)
    assert server.requests == []


def test_a_rollout_is_rolled_back_and_ended(server: ModelServer, client: Client) -> None:
    assert client.rollback_rollout("7").state is imagelink.RolloutState.READY
    assert server.last().name == NAME
    assert client.end_rollout("7").state is imagelink.RolloutState.COMPLETED
    assert server.last().name == NAME


@pytest.mark.parametrize(
    ("method", "tries"),
    [
        ("get_rollout", 2),
        ("preview_rollout", 2),
        ("update_rollout", 2),
        ("activate_rollout", 2),
        ("rollback_rollout", 1),
        ("end_rollout", 1),
        ("start_rollout", 1),
        ("delete_model", 1),
    ],
)
def test_what_may_run_twice_is_tried_again(
    server: ModelServer, client: Client, method: str, tries: int
) -> None:
    name = "".join(part.capitalize() for part in method.split("_"))
    server.unavailable[name] = 1
    try:
        getattr(client, method)("7")
    except Unavailable:
        assert tries == 1
    assert server.calls[name] == tries


async def test_the_async_client_does_the_same(
    server: ModelServer, client: Client, bundle: Path
) -> None:
    async with AsyncClient(server.target, key=KEY) as other:
        found = await asyncio.gather(
            other.register_model(bundle),
            other.get_model("second"),
            other.list_models(),
            other.delete_model("second"),
            other.start_rollout("second"),
            other.get_rollout("7"),
            other.list_rollouts(),
            other.update_rollout("7", paused=True),
            other.preview_rollout("7"),
            other.activate_rollout("7", percent=5),
            other.rollback_rollout("7"),
            other.end_rollout("7"),
        )
        with pytest.raises(FileNotFoundError):
            await other.register_model(bundle.parent)
    client.delete_model("second")
    assert found == [
        client.register_model(bundle),
        client.get_model("second"),
        client.list_models(),
        None,
        client.start_rollout("second"),
        client.get_rollout("7"),
        client.list_rollouts(),
        client.update_rollout("7", paused=True),
        client.preview_rollout("7"),
        client.activate_rollout("7", percent=5),
        client.rollback_rollout("7"),
        client.end_rollout("7"),
    ]
