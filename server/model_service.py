"""The gRPC servicer of the service Models."""

# ruff: noqa: N802 (gRPC names the methods)

from collections.abc import AsyncIterator
from datetime import datetime

from imagelink.v1 import model_pb2

from indexing.bundle import MANIFEST, TENSORS
from indexing.errors import FieldInvalid
from indexing.gallery_models import StoredModel
from indexing.gate import GateReport, KeptScanAgreement, NegativeFlip, VersionQuality
from indexing.rollout import BackfillProgress, ScanRates
from server import conversions as convert
from server.audit import audited
from server.auth import OPERATE, Caller
from server.model_operator import ModelOperator, RolloutView
from server.rpc import rpc

CHUNK = 1024 * 1024
FILES = {model_pb2.MODEL_FILE_MANIFEST: MANIFEST, model_pb2.MODEL_FILE_TENSORS: TENSORS}
ROLLOUT_FIELDS = frozenset({"paused", "max_images_per_second", "shadow_share"})


class ModelService:
    """The methods of the service Models."""

    def __init__(self, operator: ModelOperator) -> None:
        self._operator = operator

    @rpc(OPERATE)
    @audited
    async def RegisterModel(
        self, requests: AsyncIterator[model_pb2.RegisterModelRequest], caller: Caller
    ) -> model_pb2.Model:
        """Registers a model version."""
        return model_message(await self._operator.register(_pieces(requests)))

    @rpc(OPERATE)
    async def GetModel(self, request: model_pb2.GetModelRequest, caller: Caller) -> model_pb2.Model:
        """Gets a model version."""
        (version,) = convert.parsed_name("name", request.name, "models")
        return model_message(await self._operator.model(version))

    @rpc(OPERATE)
    async def ListModels(
        self, request: model_pb2.ListModelsRequest, caller: Caller
    ) -> model_pb2.ListModelsResponse:
        """Lists the model versions."""
        models = await self._operator.models()
        return model_pb2.ListModelsResponse(models=map(model_message, models))

    @rpc(OPERATE)
    @audited
    async def DeleteModel(
        self, request: model_pb2.DeleteModelRequest, caller: Caller
    ) -> model_pb2.DeleteModelResponse:
        """Deletes a model version."""
        (version,) = convert.parsed_name("name", request.name, "models")
        await self._operator.delete(version)
        return model_pb2.DeleteModelResponse()

    @rpc(OPERATE)
    @audited
    async def StartRollout(
        self, request: model_pb2.StartRolloutRequest, caller: Caller
    ) -> model_pb2.Rollout:
        """Begins a rollout."""
        (version,) = convert.parsed_name("model", request.model, "models")
        return rollout_message(
            await self._operator.start(
                version,
                checked_pace("max_images_per_second", request.max_images_per_second),
                checked_share("shadow_share", request.shadow_share),
            )
        )

    @rpc(OPERATE)
    async def GetRollout(
        self, request: model_pb2.GetRolloutRequest, caller: Caller
    ) -> model_pb2.Rollout:
        """Gets a rollout."""
        return rollout_message(await self._operator.rollout(parsed_rollout(request.name)))

    @rpc(OPERATE)
    async def ListRollouts(
        self, request: model_pb2.ListRolloutsRequest, caller: Caller
    ) -> model_pb2.ListRolloutsResponse:
        """Lists the rollouts."""
        rollouts = await self._operator.rollouts()
        return model_pb2.ListRolloutsResponse(rollouts=map(rollout_message, rollouts))

    @rpc(OPERATE)
    @audited
    async def UpdateRollout(
        self, request: model_pb2.UpdateRolloutRequest, caller: Caller
    ) -> model_pb2.Rollout:
        """Changes how a rollout goes on."""
        given = request.rollout
        (rollout,) = convert.parsed_name("rollout.name", given.name, "rollouts")
        mask = convert.checked_mask(request.update_mask.paths, ROLLOUT_FIELDS)
        pace = checked_pace("rollout.max_images_per_second", given.max_images_per_second)
        share = checked_share("rollout.shadow_share", given.shadow_share)
        return rollout_message(
            await self._operator.update(
                rollout,
                paused=given.paused if "paused" in mask else None,
                max_images_per_second=pace if "max_images_per_second" in mask else None,
                shadow_share=share if "shadow_share" in mask else None,
            )
        )

    @rpc(OPERATE)
    async def PreviewRollout(
        self, request: model_pb2.PreviewRolloutRequest, caller: Caller
    ) -> model_pb2.PreviewRolloutResponse:
        """Compares the versions of a rollout."""
        return preview_message(*await self._operator.preview(parsed_rollout(request.name)))

    @rpc(OPERATE)
    @audited
    async def ActivateRollout(
        self, request: model_pb2.ActivateRolloutRequest, caller: Caller
    ) -> model_pb2.Rollout:
        """Switches publishers to the new version."""
        publishers = [
            convert.parsed_name("publishers", name, "publishers")[0] for name in request.publishers
        ]
        if not 0 <= request.percent <= 100:
            raise FieldInvalid(field="percent", problem="give a number from 0 to 100.")
        rollout = parsed_rollout(request.name)
        return rollout_message(
            await self._operator.activate(rollout, publishers, request.percent, request.force)
        )

    @rpc(OPERATE)
    @audited
    async def RollbackRollout(
        self, request: model_pb2.RollbackRolloutRequest, caller: Caller
    ) -> model_pb2.Rollout:
        """Switches all publishers back."""
        return rollout_message(await self._operator.roll_back(parsed_rollout(request.name)))

    @rpc(OPERATE)
    @audited
    async def EndRollout(
        self, request: model_pb2.EndRolloutRequest, caller: Caller
    ) -> model_pb2.Rollout:
        """Ends a rollout."""
        return rollout_message(await self._operator.end(parsed_rollout(request.name)))


async def _pieces(
    requests: AsyncIterator[model_pb2.RegisterModelRequest],
) -> AsyncIterator[tuple[str, bytes]]:
    async for request in requests:
        if request.file not in FILES:
            raise FieldInvalid(field="file", problem="give MANIFEST or TENSORS.")
        if len(request.chunk) > CHUNK:
            raise FieldInvalid(field="chunk", problem=f"give at most {CHUNK} bytes.")
        yield FILES[request.file], request.chunk


def parsed_rollout(name: str) -> str:
    """The id in the name of a rollout. Raises FieldInvalid."""
    (rollout,) = convert.parsed_name("name", name, "rollouts")
    return rollout


def checked_pace(field: str, value: float) -> float:
    """A number of images a second. Raises FieldInvalid."""
    if not 0 <= value < float("inf"):
        raise FieldInvalid(field=field, problem="give 0 for no limit, or a number above it.")
    return value


def checked_share(field: str, value: float) -> float:
    """A share from 0 to 1. Raises FieldInvalid."""
    if not 0 <= value <= 1:
        raise FieldInvalid(field=field, problem="give a number from 0 to 1.")
    return value


def model_name(version: str) -> str:
    """``models/{version}``."""
    return f"models/{version}"


def model_message(model: StoredModel) -> model_pb2.Model:
    """A model version."""
    manifest = model.manifest
    return model_pb2.Model(
        name=model_name(model.version),
        state=model_pb2.ModelState.Value(f"MODEL_STATE_{model.state.name}"),
        architecture=manifest.architecture,
        dimension=manifest.dimension,
        parent=manifest.parent or "",
        trained_on=manifest.trained_on,
        code_commit=manifest.code_commit or "",
        metrics=manifest.metrics,
        create_time=convert.timestamp(model.create_time),
        size_bytes=model.size,
    )


def rollout_message(view: RolloutView) -> model_pb2.Rollout:
    """A rollout as it stands."""
    rollout = view.rollout
    return model_pb2.Rollout(
        name=f"rollouts/{rollout.id}",
        model=model_name(rollout.model),
        former_model=model_name(rollout.former),
        state=model_pb2.RolloutState.Value(f"ROLLOUT_STATE_{rollout.state.name}"),
        create_time=convert.timestamp(rollout.create_time),
        state_time=convert.timestamp(rollout.state_time),
        paused=rollout.paused,
        max_images_per_second=rollout.max_images_per_second,
        shadow_share=rollout.shadow_share,
        backfill=_backfill_message(view.progress),
        publisher_count=view.publishers,
        gate_passed=rollout.gate_passed,
        forced=rollout.forced,
        problem=rollout.problem,
        shadow=model_pb2.ShadowAgreement(
            scan_count=view.shadow.scans,
            agreed_count=view.shadow.agreed,
            former_only_count=view.shadow.former_only,
            new_only_count=view.shadow.new_only,
        ),
        rates=_rates_message(view.rates),
        former_rates=_rates_message(view.former_rates),
    )


def preview_message(report: GateReport, made: datetime) -> model_pb2.PreviewRolloutResponse:
    """How two versions compare."""
    return model_pb2.PreviewRolloutResponse(
        passed=report.passed,
        problems=report.problems,
        former=_quality_message(report.former),
        new=_quality_message(report.new),
        negative_flips=map(_flip_message, report.flips),
        create_time=convert.timestamp(made),
        kept_scans=_kept_scans_message(report.kept_scans),
    )


def _backfill_message(progress: BackfillProgress) -> model_pb2.Backfill:
    left = progress.seconds_left
    return model_pb2.Backfill(
        done_count=progress.done,
        image_count=progress.images,
        failed_count=progress.unusable,
        images_per_second=progress.images_per_second,
        time_left=None if left is None else convert.duration(left),
    )


def _rates_message(rates: ScanRates) -> model_pb2.ScanRates:
    return model_pb2.ScanRates(
        scan_count=rates.scans,
        match_rate=rates.match_rate,
        mean_latency=convert.duration(rates.mean_seconds),
    )


def _quality_message(quality: VersionQuality) -> model_pb2.VersionQuality:
    return model_pb2.VersionQuality(
        view_count=quality.views,
        recall=quality.recall,
        false_accept_rate=quality.false_accepts,
        calibration_error=quality.calibration_error,
        mean_latency=convert.duration(quality.mean_seconds),
    )


def _kept_scans_message(kept: KeptScanAgreement) -> model_pb2.KeptScanAgreement:
    return model_pb2.KeptScanAgreement(
        scan_count=kept.scans,
        agreed_count=kept.agreed,
        lost_count=kept.lost,
        changed_count=kept.changed,
        gained_count=kept.gained,
    )


def _flip_message(flip: NegativeFlip) -> model_pb2.NegativeFlip:
    answer = convert.reference_name(flip.publisher, flip.answer) if flip.answer else ""
    return model_pb2.NegativeFlip(
        reference=convert.reference_name(flip.publisher, flip.reference),
        view=flip.view,
        answer=answer,
    )
