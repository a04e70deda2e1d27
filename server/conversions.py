"""Proto messages from entities, and checked values from requests."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from imagelink.v1 import gallery_pb2, publisher_pb2, recognition_pb2

from indexing import decision, reference
from indexing.errors import FieldInvalid, PageTokenInvalid
from indexing.explanation import Verdict
from indexing.forecast import Duplicate, Issue, PrintSize, Rival, SettingForecast
from indexing.gallery_records import Written
from indexing.recognition import Recognition
from indexing.voting import Floats
from server.assessment import Assessment
from server.explanation import Explained, Explanation

Item = TypeVar("Item")

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ID_FORM = "1 to 63 lower-case letters, digits and hyphens, beginning with a letter or digit"
UNSAFE_SCHEMES = frozenset({"javascript", "data", "file", "vbscript", "blob"})
MAX_LINK, MAX_NAME = 2048, 256
MAX_ENTRIES, MAX_KEY, MAX_VALUE = 64, 64, 1024
DEFAULT_PAGE, MAX_PAGE = 100, 1000
MAX_EXPLANATIONS = 5
MAX_SCAN_WEIGHT = 100
MIN_SCAN_QUOTA, MAX_SCAN_QUOTA = 0.001, 1_000_000
MAX_REFERENCE_QUOTA = 1_000_000_000
MAX_KEPT_SCANS = 1000


def publisher_name(publisher: str) -> str:
    """``publishers/{publisher}``."""
    return f"publishers/{publisher}"


def reference_name(publisher: str, reference_id: str) -> str:
    """``publishers/{publisher}/references/{reference}``."""
    return f"publishers/{publisher}/references/{reference_id}"


def parsed_name(field: str, name: str, *collections: str) -> tuple[str, ...]:
    """The ids in a resource name made of ``collections``. Raises FieldInvalid."""
    parts = name.split("/")
    form = "/".join(f"{collection}/ID" for collection in collections)
    if len(parts) != 2 * len(collections) or tuple(parts[::2]) != collections:
        raise FieldInvalid(field=field, problem=f"'{name}' is not of the form {form}.")
    return tuple(checked_id(field, part) for part in parts[1::2])


def checked_id(field: str, value: str) -> str:
    """An id as given. Raises FieldInvalid."""
    if not ID.fullmatch(value):
        raise FieldInvalid(field=field, problem=f"'{value[:80]}' is not an id: {ID_FORM}.")
    return value


def checked_link(field: str, link: str) -> str:
    """A link as given: an absolute URI that is safe to open. Raises FieldInvalid."""
    if not link or len(link) > MAX_LINK:
        raise FieldInvalid(field=field, problem=f"give a URI of 1 to {MAX_LINK} characters.")
    try:
        parts = urlsplit(link)
    except ValueError:
        raise FieldInvalid(field=field, problem=f"'{link}' is not a URI.") from None
    if not parts.scheme or not (parts.netloc or parts.path) or re.search(r"[\s\x00-\x1f]", link):
        raise FieldInvalid(field=field, problem=f"'{link}' is not an absolute URI like https://….")
    if parts.scheme.lower() in UNSAFE_SCHEMES:
        raise FieldInvalid(field=field, problem=f"links may not use the scheme '{parts.scheme}'.")
    return link


def checked_metadata(field: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata within its limits. Raises FieldInvalid."""
    long = [k for k, v in metadata.items() if len(k) > MAX_KEY or len(v) > MAX_VALUE]
    if len(metadata) > MAX_ENTRIES or long or any("\0" in k + v for k, v in metadata.items()):
        problem = (
            f"at most {MAX_ENTRIES} entries with keys of at most {MAX_KEY} and values of at most "
            f"{MAX_VALUE} characters, none of them NUL."
        )
        raise FieldInvalid(field=field, problem=problem)
    return dict(metadata)


def checked_display_name(field: str, name: str) -> str:
    """A display name as given. Raises FieldInvalid."""
    if len(name) > MAX_NAME or "\0" in name:
        raise FieldInvalid(field=field, problem=f"at most {MAX_NAME} characters, none of them NUL.")
    return name


def checked_budget(field: str, budget: float) -> float:
    """A false-accept budget as given. Raises FieldInvalid."""
    if not 1e-6 <= budget <= 0.1:
        raise FieldInvalid(field=field, problem="give a share from 0.000001 to 0.1.")
    return budget


def checked_scan_weight(field: str, weight: int) -> int:
    """A scan weight as given. Raises FieldInvalid."""
    if not 1 <= weight <= MAX_SCAN_WEIGHT:
        raise FieldInvalid(field=field, problem=f"give a number from 1 to {MAX_SCAN_WEIGHT}.")
    return weight


def checked_scan_quota(field: str, quota: float) -> float:
    """A quota of scans per second as given, 0 for none. Raises FieldInvalid."""
    if quota != 0 and not MIN_SCAN_QUOTA <= quota <= MAX_SCAN_QUOTA:
        problem = f"give a number from {MIN_SCAN_QUOTA} to {MAX_SCAN_QUOTA}, or 0 for no limit."
        raise FieldInvalid(field=field, problem=problem)
    return quota


def checked_reference_quota(field: str, quota: int) -> int:
    """A quota of references as given, 0 for none. Raises FieldInvalid."""
    if not 0 <= quota <= MAX_REFERENCE_QUOTA:
        problem = f"give a number from 1 to {MAX_REFERENCE_QUOTA}, or 0 for no limit."
        raise FieldInvalid(field=field, problem=problem)
    return quota


def checked_kept_scans(field: str, count: int) -> int:
    """How many scans may be kept, as given, 0 for none. Raises FieldInvalid."""
    if not 0 <= count <= MAX_KEPT_SCANS:
        problem = f"give a number from 1 to {MAX_KEPT_SCANS}, or 0 for no consent."
        raise FieldInvalid(field=field, problem=problem)
    return count


def checked_request_id(field: str, request_id: str) -> str:
    """A request id as given: a UUID, or nothing. Raises FieldInvalid."""
    return checked_uuid(field, request_id) if request_id else ""


def checked_uuid(field: str, text: str) -> str:
    """A UUID as PostgreSQL writes it. Raises FieldInvalid."""
    try:
        return str(UUID(text))
    except ValueError:
        raise FieldInvalid(field=field, problem="give a UUID.") from None


def checked_mask(paths: Iterable[str], allowed: frozenset[str]) -> frozenset[str]:
    """The fields of an update mask. Raises FieldInvalid."""
    given = frozenset(paths)
    if not given or not given <= allowed:
        problem = f"name one or more of {', '.join(sorted(allowed))}."
        raise FieldInvalid(field="update_mask", problem=problem)
    return given


def checked_page_size(size: int) -> int:
    """The page size to use. Raises FieldInvalid."""
    if size < 0:
        raise FieldInvalid(field="page_size", problem="it cannot be negative.")
    return min(size or DEFAULT_PAGE, MAX_PAGE)


def checked_gallery_version(field: str, version: int) -> int:
    """A gallery version as given. Raises FieldInvalid."""
    if version < 0:
        raise FieldInvalid(field=field, problem="it cannot be negative.")
    return version


def checked_explanation_count(field: str, count: int) -> int:
    """How many references to explain. Raises FieldInvalid."""
    if count < 0:
        raise FieldInvalid(field=field, problem="it cannot be negative.")
    return min(count or MAX_EXPLANATIONS, MAX_EXPLANATIONS)


def checked_expiry(field: str, key: publisher_pb2.ApiKey) -> datetime | None:
    """When a new key expires: in the future, or never. Raises FieldInvalid."""
    if not key.HasField("expire_time"):
        return None
    try:
        time = key.expire_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise FieldInvalid(field=field, problem="it is no point in time.") from None
    if time <= datetime.now(UTC):
        raise FieldInvalid(field=field, problem="give a time in the future.")
    return time


def page_token(kind: str, last_id: str) -> str:
    """A token for the page after ``last_id``."""
    return base64.urlsafe_b64encode(f"{kind}:{last_id}".encode()).decode()


def paged(
    kind: str, found: Sequence[Item], size: int, id_of: Callable[[Item], str]
) -> tuple[Sequence[Item], str]:
    """The page of at most ``size`` items, and the token of the next; empty where there is none.

    One more than ``size`` was looked for, to see whether there is.
    """
    page = found[:size]
    return page, page_token(kind, id_of(page[-1])) if len(found) > size else ""


def parsed_page_token(kind: str, token: str) -> str | None:
    """The last id of the page before, or None for the first page. Raises PageTokenInvalid."""
    if not token:
        return None
    try:
        found, _, last_id = base64.urlsafe_b64decode(token).decode().partition(":")
    except (binascii.Error, UnicodeError, ValueError):
        raise PageTokenInvalid from None
    if found != kind or not ID.fullmatch(last_id):
        raise PageTokenInvalid
    return last_id


def timestamp(time: datetime) -> Timestamp:
    """A point in time."""
    converted = Timestamp()
    converted.FromDatetime(time)
    return converted


def publisher_message(entity: reference.Publisher) -> publisher_pb2.Publisher:
    """A publisher."""
    return publisher_pb2.Publisher(
        name=publisher_name(entity.id),
        display_name=entity.display_name,
        suspended=entity.suspended,
        false_accept_budget=entity.false_accept_budget,
        gallery_version=entity.gallery_version,
        create_time=timestamp(entity.create_time),
        scan_weight=entity.scan_weight,
        max_scans_per_second=entity.max_scans_per_second,
        max_references=entity.max_references,
        max_kept_scans=entity.max_kept_scans,
    )


def role_message(role: reference.Role) -> "publisher_pb2.Role.ValueType":
    """A role."""
    return publisher_pb2.Role.Value(f"ROLE_{role.name}")


def api_key_message(entity: reference.ApiKey) -> publisher_pb2.ApiKey:
    """An API key, without its secret."""
    return publisher_pb2.ApiKey(
        name=f"publishers/{entity.publisher}/apiKeys/{entity.id}",
        role=role_message(entity.role),
        display_name=entity.display_name,
        create_time=timestamp(entity.create_time),
        revoke_time=timestamp(entity.revoke_time) if entity.revoke_time else None,
        expire_time=timestamp(entity.expire_time) if entity.expire_time else None,
    )


def reference_message(entity: reference.Reference) -> gallery_pb2.Reference:
    """A reference with its images."""
    return gallery_pb2.Reference(
        name=reference_name(entity.publisher, entity.id),
        link=entity.link,
        metadata=dict(entity.metadata),
        active=entity.active,
        images=[
            gallery_pb2.ReferenceImage(
                image_id=image.id, width=image.width, height=image.height, sha256=image.sha256
            )
            for image in entity.images
        ],
        create_time=timestamp(entity.create_time),
        update_time=timestamp(entity.update_time),
    )


def registered_message(written: Written) -> gallery_pb2.RegisterResponse:
    """The answer to a registration, without an assessment."""
    return gallery_pb2.RegisterResponse(
        reference=reference_message(written.reference), gallery_version=written.gallery_version
    )


def scan_message(
    publisher: str, found: Recognition, size: tuple[int, int], scan_id: str
) -> recognition_pb2.ScanResponse:
    """The answer to a scan of a photo of ``size`` (width, height) in pixels."""
    return recognition_pb2.ScanResponse(
        matches=[match_message(publisher, match, size) for match in found.matches],
        no_match_reason=_no_match_message(found.no_match),
        model_version=found.model_version,
        gallery_version=found.gallery_version,
        scan_id=scan_id,
        timings=[
            recognition_pb2.StageTiming(stage=stage, duration=duration(seconds))
            for stage, seconds in found.seconds.items()
        ],
    )


def explain_message(publisher: str, found: Explained) -> recognition_pb2.ExplainResponse:
    """The explanations of a scan."""
    return recognition_pb2.ExplainResponse(
        explanations=[
            _explanation_message(publisher, each, found.size) for each in found.explanations
        ],
        no_match_reason=_no_match_message(found.no_match),
        model_version=found.model_version,
        gallery_version=found.gallery_version,
    )


def _explanation_message(
    publisher: str, explanation: Explanation, size: tuple[int, int]
) -> recognition_pb2.Explanation:
    judgement = explanation.judgement
    message = recognition_pb2.Explanation(
        reference=reference_name(publisher, judgement.reference),
        verdict=recognition_pb2.Verdict.Value(f"VERDICT_{judgement.verdict.name}"),
        accepted=judgement.verdict is Verdict.ACCEPTED,
        channel=judgement.channel or "",
        photo_keypoints=explanation.photo_keypoints,
        picture=explanation.picture,
    )
    if judgement.comparison is not None:
        match = judgement.comparison.match
        evidence = match.candidate.evidence
        message.probability = match.probability
        message.threshold = judgement.comparison.threshold_probability
        message.location.CopyFrom(_quad_message(evidence.geometry.quad, size))
        message.evidence.CopyFrom(_evidence_message(evidence))
    return message


def assessment_message(publisher: str, made: Assessment) -> gallery_pb2.Assessment:
    """How well an image will scan."""
    forecast = made.forecast
    return gallery_pb2.Assessment(
        detection_rate=forecast.detection_rate,
        view_count=forecast.views,
        mean_margin=forecast.margin,
        conditions=[_condition_message(each) for each in forecast.settings],
        min_frame_share=forecast.least_frame_share or 0.0,
        min_print_sizes=[_print_size_message(each) for each in forecast.print_sizes],
        duplicates=[_duplicate_message(publisher, each) for each in forecast.duplicates],
        rivals=[_rival_message(publisher, each) for each in forecast.rivals],
        issues=[_issue_message(each) for each in forecast.issues],
        model_version=made.model_version,
        gallery_version=made.gallery_version,
    )


def _condition_message(forecast: SettingForecast) -> gallery_pb2.ConditionForecast:
    name = f"VIEWING_CONDITION_{forecast.condition.name}"
    return gallery_pb2.ConditionForecast(
        condition=gallery_pb2.ViewingCondition.Value(name),
        frame_share=forecast.frame_share,
        view_count=forecast.views,
        detection_rate=forecast.detection_rate,
    )


def _print_size_message(size: PrintSize) -> gallery_pb2.PrintSize:
    return gallery_pb2.PrintSize(
        distance_m=size.distance, width_cm=size.width, height_cm=size.height
    )


def _duplicate_message(publisher: str, duplicate: Duplicate) -> gallery_pb2.Duplicate:
    return gallery_pb2.Duplicate(
        reference=reference_name(publisher, duplicate.reference),
        probability=duplicate.probability,
        coverage=duplicate.coverage,
    )


def _rival_message(publisher: str, rival: Rival) -> gallery_pb2.Rival:
    return gallery_pb2.Rival(
        reference=reference_name(publisher, rival.reference),
        wrong_share=rival.wrong_share,
        margin=rival.margin,
    )


def _issue_message(issue: Issue) -> gallery_pb2.ImageIssue:
    kind = gallery_pb2.ImageIssueKind.Value(f"IMAGE_ISSUE_KIND_{issue.name}")
    return gallery_pb2.ImageIssue(kind=kind, advice=issue.advice)


def duration(seconds: float) -> Duration:
    """A span of time."""
    converted = Duration()
    converted.FromTimedelta(timedelta(seconds=seconds))
    return converted


def _no_match_message(reason: decision.NoMatch | None) -> "recognition_pb2.NoMatchReason.ValueType":
    name = "UNSPECIFIED" if reason is None else reason.name
    return recognition_pb2.NoMatchReason.Value(f"NO_MATCH_REASON_{name}")


def match_message(
    publisher: str, match: decision.Match, size: tuple[int, int]
) -> recognition_pb2.Match:
    """A match in a photo of ``size`` (width, height) in pixels."""
    candidate = match.candidate
    return recognition_pb2.Match(
        reference=reference_name(publisher, candidate.reference),
        link=candidate.link,
        metadata=dict(candidate.metadata),
        probability=match.probability,
        location=_quad_message(candidate.evidence.geometry.quad, size),
        evidence=_evidence_message(candidate.evidence),
    )


def _evidence_message(evidence: decision.Evidence) -> recognition_pb2.Evidence:
    return recognition_pb2.Evidence(
        similarity=evidence.similarity,
        vote_share=evidence.vote_share,
        inliers=evidence.geometry.inliers,
        inlier_ratio=evidence.geometry.inlier_ratio,
        coverage=evidence.geometry.coverage,
        matches=evidence.geometry.matches,
        agreement=evidence.agreement.everywhere,
    )


def _quad_message(quad: Floats, size: tuple[int, int]) -> recognition_pb2.Quad:
    corners = [recognition_pb2.Point(x=x * size[0], y=y * size[1]) for x, y in quad.tolist()]
    names = ("top_left", "top_right", "bottom_right", "bottom_left")
    return recognition_pb2.Quad(**dict(zip(names, corners, strict=True)))
