"""The calls of the service Models: for each, its request and the conversion of its answer."""

from collections.abc import Collection, Iterable
from datetime import UTC
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask

from imagelink._calls import Call, Method, given, publisher_name
from imagelink.models import (
    Backfill,
    KeptScanAgreement,
    Model,
    ModelState,
    NegativeFlip,
    Rollout,
    RolloutPreview,
    RolloutState,
    ScanRates,
    ShadowAgreement,
    VersionQuality,
)
from imagelink.v1 import model_pb2

State = TypeVar("State", bound=StrEnum)


def _model(message: model_pb2.Model) -> Model:
    return Model(
        name=message.name,
        state=model_state(message.state),
        architecture=message.architecture,
        dimension=message.dimension,
        parent=message.parent,
        trained_on=message.trained_on,
        code_commit=message.code_commit,
        metrics=dict(message.metrics),
        create_time=message.create_time.ToDatetime(tzinfo=UTC),
        size_bytes=message.size_bytes,
    )


def model_state(value: int) -> ModelState:
    """Converts what a model version is doing."""
    return _state(ModelState, model_pb2.ModelState.items(), value)


def rollout_state(value: int) -> RolloutState:
    """Converts how far a rollout is."""
    return _state(RolloutState, model_pb2.RolloutState.items(), value)


def _state(states: type[State], values: Iterable[tuple[str, int]], value: int) -> State:
    name = next((name for name, number in values if number == value), "")
    return states.__members__.get(name.partition("_STATE_")[2], states["UNKNOWN"])


def _models(message: model_pb2.ListModelsResponse) -> list[Model]:
    return [_model(item) for item in message.models]


def _deleted(message: model_pb2.DeleteModelResponse) -> None:
    return None


def _rollout(message: model_pb2.Rollout) -> Rollout:
    return Rollout(
        name=message.name,
        model=message.model,
        former_model=message.former_model,
        state=rollout_state(message.state),
        create_time=message.create_time.ToDatetime(tzinfo=UTC),
        state_time=message.state_time.ToDatetime(tzinfo=UTC),
        paused=message.paused,
        max_images_per_second=message.max_images_per_second,
        shadow_share=message.shadow_share,
        backfill=_backfill(message.backfill),
        publisher_count=message.publisher_count,
        gate_passed=message.gate_passed if message.HasField("gate_passed") else None,
        forced=message.forced,
        problem=message.problem,
        shadow=_shadow(message.shadow),
        rates=_rates(message.rates),
        former_rates=_rates(message.former_rates),
    )


def _backfill(message: model_pb2.Backfill) -> Backfill:
    left = message.time_left.ToTimedelta() if message.HasField("time_left") else None
    return Backfill(
        done_count=message.done_count,
        image_count=message.image_count,
        failed_count=message.failed_count,
        images_per_second=message.images_per_second,
        seconds_left=None if left is None else left.total_seconds(),
    )


def _shadow(message: model_pb2.ShadowAgreement) -> ShadowAgreement:
    return ShadowAgreement(
        scan_count=message.scan_count,
        agreed_count=message.agreed_count,
        former_only_count=message.former_only_count,
        new_only_count=message.new_only_count,
    )


def _rates(message: model_pb2.ScanRates) -> ScanRates:
    return ScanRates(
        scan_count=message.scan_count,
        match_rate=message.match_rate,
        mean_seconds=message.mean_latency.ToTimedelta().total_seconds(),
    )


def _rollouts(message: model_pb2.ListRolloutsResponse) -> list[Rollout]:
    return [_rollout(item) for item in message.rollouts]


def _preview(message: model_pb2.PreviewRolloutResponse) -> RolloutPreview:
    return RolloutPreview(
        passed=message.passed,
        problems=tuple(message.problems),
        former=_quality(message.former),
        new=_quality(message.new),
        negative_flips=tuple(
            NegativeFlip(flip.reference, flip.view, flip.answer) for flip in message.negative_flips
        ),
        create_time=message.create_time.ToDatetime(tzinfo=UTC),
        kept_scans=_kept_scans(message.kept_scans),
    )


def _kept_scans(message: model_pb2.KeptScanAgreement) -> KeptScanAgreement:
    return KeptScanAgreement(
        scan_count=message.scan_count,
        agreed_count=message.agreed_count,
        lost_count=message.lost_count,
        changed_count=message.changed_count,
        gained_count=message.gained_count,
    )


def _quality(message: model_pb2.VersionQuality) -> VersionQuality:
    return VersionQuality(
        view_count=message.view_count,
        recall=message.recall,
        false_accept_rate=message.false_accept_rate,
        calibration_error=message.calibration_error,
        mean_seconds=message.mean_latency.ToTimedelta().total_seconds(),
    )


# A version is named by a hash of its files, so that sending it twice registers it once.
REGISTER_MODEL = Method("Models", "RegisterModel", model_pb2.Model, _model, retried=True)
GET_MODEL = Method("Models", "GetModel", model_pb2.Model, _model, retried=True)
LIST_MODELS = Method("Models", "ListModels", model_pb2.ListModelsResponse, _models, retried=True)
DELETE_MODEL = Method("Models", "DeleteModel", model_pb2.DeleteModelResponse, _deleted)
START_ROLLOUT = Method("Models", "StartRollout", model_pb2.Rollout, _rollout)
GET_ROLLOUT = Method("Models", "GetRollout", model_pb2.Rollout, _rollout, retried=True)
LIST_ROLLOUTS = Method(
    "Models", "ListRollouts", model_pb2.ListRolloutsResponse, _rollouts, retried=True
)
UPDATE_ROLLOUT = Method("Models", "UpdateRollout", model_pb2.Rollout, _rollout, retried=True)
PREVIEW_ROLLOUT = Method(
    "Models", "PreviewRollout", model_pb2.PreviewRolloutResponse, _preview, retried=True
)
ACTIVATE_ROLLOUT = Method("Models", "ActivateRollout", model_pb2.Rollout, _rollout, retried=True)
# A second rollback, and a second end, are refused.
ROLLBACK_ROLLOUT = Method("Models", "RollbackRollout", model_pb2.Rollout, _rollout)
END_ROLLOUT = Method("Models", "EndRollout", model_pb2.Rollout, _rollout)

METHODS: tuple[Method[Any, Any], ...] = (
    REGISTER_MODEL,
    GET_MODEL,
    LIST_MODELS,
    DELETE_MODEL,
    START_ROLLOUT,
    GET_ROLLOUT,
    LIST_ROLLOUTS,
    UPDATE_ROLLOUT,
    PREVIEW_ROLLOUT,
    ACTIVATE_ROLLOUT,
    ROLLBACK_ROLLOUT,
    END_ROLLOUT,
)


def get_model(model: str) -> Call[Model]:
    """Gets a model version."""
    return Call(GET_MODEL, model_pb2.GetModelRequest(name=model_name(model)))


def list_models() -> Call[list[Model]]:
    """Lists the model versions."""
    return Call(LIST_MODELS, model_pb2.ListModelsRequest())


def delete_model(model: str) -> Call[None]:
    """Deletes a model version."""
    return Call(DELETE_MODEL, model_pb2.DeleteModelRequest(name=model_name(model)))


def start_rollout(model: str, max_images_per_second: float, shadow_share: float) -> Call[Rollout]:
    """Begins to bring a model version into service."""
    request = model_pb2.StartRolloutRequest(
        model=model_name(model),
        max_images_per_second=max_images_per_second,
        shadow_share=shadow_share,
    )
    return Call(START_ROLLOUT, request)


def get_rollout(rollout: str) -> Call[Rollout]:
    """Gets a rollout."""
    return Call(GET_ROLLOUT, model_pb2.GetRolloutRequest(name=rollout_name(rollout)))


def list_rollouts() -> Call[list[Rollout]]:
    """Lists the rollouts."""
    return Call(LIST_ROLLOUTS, model_pb2.ListRolloutsRequest())


def update_rollout(
    rollout: str,
    paused: bool | None,
    max_images_per_second: float | None,
    shadow_share: float | None,
) -> Call[Rollout]:
    """Changes the fields of a rollout that are not None."""
    changes = given(
        paused=paused, max_images_per_second=max_images_per_second, shadow_share=shadow_share
    )
    request = model_pb2.UpdateRolloutRequest(
        rollout=model_pb2.Rollout(name=rollout_name(rollout), **changes),
        update_mask=FieldMask(paths=list(changes)),
    )
    return Call(UPDATE_ROLLOUT, request)


def preview_rollout(rollout: str) -> Call[RolloutPreview]:
    """Answers how the versions of a rollout compare."""
    return Call(PREVIEW_ROLLOUT, model_pb2.PreviewRolloutRequest(name=rollout_name(rollout)))


def activate_rollout(
    rollout: str, publishers: Collection[str] | None, percent: float | None, force: bool
) -> Call[Rollout]:
    """Switches some publishers, or all where neither they nor a share of them is given."""
    # To the server, none and 0 % are the same as not given: they would switch everybody.
    if publishers is not None and not publishers:
        raise ValueError("There is no publisher to switch: give None to switch all of them.")
    if percent is not None and not 0 < percent <= 100:
        raise ValueError("The share of publishers to switch is above 0 and at most 100 %.")
    request = model_pb2.ActivateRolloutRequest(
        name=rollout_name(rollout),
        publishers=map(publisher_name, publishers or ()),
        percent=percent or 0.0,
        force=force,
    )
    return Call(ACTIVATE_ROLLOUT, request)


def rollback_rollout(rollout: str) -> Call[Rollout]:
    """Switches all publishers back."""
    return Call(ROLLBACK_ROLLOUT, model_pb2.RollbackRolloutRequest(name=rollout_name(rollout)))


def end_rollout(rollout: str) -> Call[Rollout]:
    """Ends a rollout for good."""
    return Call(END_ROLLOUT, model_pb2.EndRolloutRequest(name=rollout_name(rollout)))


def model_name(model: str) -> str:
    """The resource name of a model, given it or the version."""
    return model if "/" in model else f"models/{model}"


def rollout_name(rollout: str) -> str:
    """The resource name of a rollout, given it or the bare id."""
    return rollout if "/" in rollout else f"rollouts/{rollout}"
