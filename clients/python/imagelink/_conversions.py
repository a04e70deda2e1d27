"""From protobuf messages to the client's types."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from imagelink import archives, erasures, types
from imagelink.errors import ImageLinkError, from_status
from imagelink.v1 import gallery_pb2, publisher_pb2, recognition_pb2

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list, and the token of the page after."""

    items: tuple[T, ...]
    next_page_token: str


def scan_result(message: recognition_pb2.ScanResponse) -> types.ScanResult:
    """Converts the answer to a scan."""
    return types.ScanResult(
        matches=tuple(match(item) for item in message.matches),
        no_match_reason=no_match_reason(message.no_match_reason),
        model_version=message.model_version,
        gallery_version=message.gallery_version,
        scan_id=message.scan_id,
        timings={timing.stage: timing.duration.ToNanoseconds() / 1e9 for timing in message.timings},
    )


def match(message: recognition_pb2.Match) -> types.Match:
    """Converts a reference found in a photo."""
    return types.Match(
        reference=message.reference,
        link=message.link,
        metadata=dict(message.metadata),
        probability=message.probability,
        location=quad(message.location),
        evidence=evidence(message.evidence),
    )


def quad(message: recognition_pb2.Quad) -> types.Quad:
    """Converts the corners of a reference in a photo."""
    corners = (message.top_left, message.top_right, message.bottom_right, message.bottom_left)
    return types.Quad(*(types.Point(corner.x, corner.y) for corner in corners))


def evidence(message: recognition_pb2.Evidence) -> types.Evidence:
    """Converts what a match rests on."""
    return types.Evidence(
        similarity=message.similarity if message.HasField("similarity") else None,
        vote_share=message.vote_share,
        inliers=message.inliers,
        inlier_ratio=message.inlier_ratio,
        coverage=message.coverage,
        matches=message.matches,
        agreement=message.agreement,
    )


def explanation_result(message: recognition_pb2.ExplainResponse) -> types.ExplanationResult:
    """Converts the explanations of a scan."""
    return types.ExplanationResult(
        explanations=tuple(explanation(item) for item in message.explanations),
        no_match_reason=no_match_reason(message.no_match_reason),
        model_version=message.model_version,
        gallery_version=message.gallery_version,
    )


def explanation(message: recognition_pb2.Explanation) -> types.Explanation:
    """Converts why a reference was found or not."""
    return types.Explanation(
        reference=message.reference,
        verdict=verdict(message.verdict),
        accepted=message.accepted,
        probability=message.probability,
        threshold=message.threshold,
        channel=message.channel,
        photo_keypoints=message.photo_keypoints,
        location=quad(message.location) if message.HasField("location") else None,
        evidence=evidence(message.evidence) if message.HasField("evidence") else None,
        picture=message.picture,
    )


def verdict(value: int) -> types.Verdict:
    """Converts what was decided of a reference."""
    name = _enum_name(recognition_pb2.Verdict.items(), value).removeprefix("VERDICT_")
    return types.Verdict.__members__.get(name, types.Verdict.UNKNOWN)


def no_match_reason(value: int) -> types.NoMatchReason | None:
    """Converts why a scan found nothing; None stands for "it found something"."""
    enum = recognition_pb2.NoMatchReason
    if value == enum.NO_MATCH_REASON_UNSPECIFIED:
        return None
    name = _enum_name(enum.items(), value).removeprefix("NO_MATCH_REASON_")
    return types.NoMatchReason.__members__.get(name, types.NoMatchReason.UNKNOWN)


def reference(message: gallery_pb2.Reference) -> types.Reference:
    """Converts a reference."""
    return types.Reference(
        name=message.name,
        link=message.link,
        metadata=dict(message.metadata),
        active=message.active,
        images=tuple(reference_image(image) for image in message.images),
        create_time=_time(message.create_time),
        update_time=_time(message.update_time),
    )


def reference_image(message: gallery_pb2.ReferenceImage) -> types.ReferenceImage:
    """Converts an image of a reference."""
    return types.ReferenceImage(message.image_id, message.width, message.height, message.sha256)


def registered(message: gallery_pb2.RegisterResponse) -> types.Written:
    """Converts the answer to a registration."""
    assessed = assessment(message.assessment) if message.HasField("assessment") else None
    return types.Written(reference(message.reference), message.gallery_version, assessed)


def batch_outcome(message: gallery_pb2.BatchRegisterResponse) -> types.Written | ImageLinkError:
    """Converts the result of one item of a batch."""
    if message.HasField("error"):
        return from_status(message.error)
    return registered(message.response)


def image_added(message: gallery_pb2.AddImageResponse) -> types.AddedImage:
    """Converts the answer to an added image."""
    return types.AddedImage(reference(message.reference), message.gallery_version, message.image_id)


def image_removed(message: gallery_pb2.RemoveImageResponse) -> types.Written:
    """Converts the answer to a removed image."""
    return types.Written(reference(message.reference), message.gallery_version)


def assessed_image(message: gallery_pb2.AssessImageResponse) -> types.Assessment:
    """Converts the assessment of an image."""
    return assessment(message.assessment)


def assessment(message: gallery_pb2.Assessment) -> types.Assessment:
    """Converts how well an image will scan."""
    return types.Assessment(
        detection_rate=message.detection_rate,
        view_count=message.view_count,
        mean_margin=message.mean_margin,
        conditions=tuple(condition_forecast(item) for item in message.conditions),
        min_frame_share=message.min_frame_share or None,
        min_print_sizes=tuple(
            types.PrintSize(item.distance_m, item.width_cm, item.height_cm)
            for item in message.min_print_sizes
        ),
        duplicates=tuple(
            types.Duplicate(item.reference, item.probability, item.coverage)
            for item in message.duplicates
        ),
        rivals=tuple(
            types.Rival(item.reference, item.wrong_share, item.margin) for item in message.rivals
        ),
        issues=tuple(image_issue(item) for item in message.issues),
        model_version=message.model_version,
        gallery_version=message.gallery_version,
    )


def condition_forecast(message: gallery_pb2.ConditionForecast) -> types.ConditionForecast:
    """Converts how often an image is recognised in one condition."""
    return types.ConditionForecast(
        condition=viewing_condition(message.condition),
        frame_share=message.frame_share,
        view_count=message.view_count,
        detection_rate=message.detection_rate,
    )


def viewing_condition(value: int) -> types.ViewingCondition:
    """Converts what makes a photo hard."""
    name = _enum_name(gallery_pb2.ViewingCondition.items(), value)
    return types.ViewingCondition.__members__.get(
        name.removeprefix("VIEWING_CONDITION_"), types.ViewingCondition.UNKNOWN
    )


def image_issue(message: gallery_pb2.ImageIssue) -> types.ImageIssue:
    """Converts what may be wrong with an image."""
    return types.ImageIssue(image_issue_kind(message.kind), message.advice)


def image_issue_kind(value: int) -> types.ImageIssueKind:
    """Converts which issue it is."""
    name = _enum_name(gallery_pb2.ImageIssueKind.items(), value)
    return types.ImageIssueKind.__members__.get(
        name.removeprefix("IMAGE_ISSUE_KIND_"), types.ImageIssueKind.UNKNOWN
    )


def updated(message: gallery_pb2.UpdateReferenceResponse) -> types.Written:
    """Converts the answer to a change of a reference."""
    return types.Written(reference(message.reference), message.gallery_version)


def reference_page(message: gallery_pb2.ListReferencesResponse) -> Page[types.Reference]:
    """Converts a page of references."""
    return Page(tuple(map(reference, message.references)), message.next_page_token)


def deletion(message: gallery_pb2.DeleteReferenceResponse) -> erasures.Deletion:
    """Converts the answer to the deletion of a reference."""
    return erasures.Deletion(message.gallery_version, message.erasure_receipt)


def publisher(message: publisher_pb2.Publisher) -> types.Publisher:
    """Converts a publisher."""
    return types.Publisher(
        name=message.name,
        display_name=message.display_name,
        suspended=message.suspended,
        false_accept_budget=message.false_accept_budget,
        gallery_version=message.gallery_version,
        create_time=_time(message.create_time),
        scan_weight=message.scan_weight,
        max_scans_per_second=message.max_scans_per_second,
        max_references=message.max_references,
        max_kept_scans=message.max_kept_scans,
    )


def publisher_page(message: publisher_pb2.ListPublishersResponse) -> Page[types.Publisher]:
    """Converts a page of publishers."""
    return Page(tuple(map(publisher, message.publishers)), message.next_page_token)


def publisher_deletion(
    message: publisher_pb2.DeletePublisherResponse,
) -> erasures.PublisherDeletion:
    """Converts the answer to the deletion of a publisher."""
    return erasures.PublisherDeletion(message.references_deleted, message.erasure_receipt)


def archive_chunk(message: publisher_pb2.ExportGalleryResponse) -> bytes:
    """The next bytes of an archive."""
    return message.chunk


def import_result(message: publisher_pb2.ImportGalleryResponse) -> archives.ImportResult:
    """Converts what became of an archive."""
    return archives.ImportResult(
        imported_count=message.imported_count,
        kept_count=message.kept_count,
        failures={each.reference: from_status(each.error) for each in message.failures},
        gallery_version=message.gallery_version,
    )


def role(value: int) -> types.Role:
    """Converts what a key may do."""
    name = _enum_name(publisher_pb2.Role.items(), value).removeprefix("ROLE_")
    return types.Role.__members__.get(name, types.Role.UNKNOWN)


def api_key(message: publisher_pb2.ApiKey) -> types.ApiKey:
    """Converts an API key's description."""
    return types.ApiKey(
        name=message.name,
        role=role(message.role),
        display_name=message.display_name,
        create_time=_time(message.create_time),
        revoke_time=_time_of(message, "revoke_time"),
        expire_time=_time_of(message, "expire_time"),
    )


def created_api_key(message: publisher_pb2.CreateApiKeyResponse) -> tuple[types.ApiKey, str]:
    """Converts a new API key: its description and the key itself."""
    return api_key(message.api_key), message.key


def api_keys(message: publisher_pb2.ListApiKeysResponse) -> list[types.ApiKey]:
    """Converts all keys of a publisher."""
    return [api_key(item) for item in message.api_keys]


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _time_of(message: Message, field: str) -> datetime | None:
    return _time(getattr(message, field)) if message.HasField(field) else None


def _enum_name(items: Sequence[tuple[str, int]], value: int) -> str:
    return next((name for name, number in items if number == value), "")
