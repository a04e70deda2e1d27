"""Why a photo did or did not match, through the real server."""

import io
import json
from pathlib import Path

import grpc
import numpy as np
import pytest
from imagelink import AsyncClient, NoMatchReason, Verdict
from PIL import Image

from tests.e2e.harness import RunningServer, Tenant, refused
from tests.e2e.pictures import artworks, corners_of, encoded, photo_of, strangers
from tests.e2e.test_cli import output

Code = grpc.StatusCode
LINK = "https://example.com/"
PHOTO = encoded(photo_of(artworks()[0]).photo)
STRANGER = encoded(strangers()[0])
BLANK = encoded(np.full((480, 640, 3), 128, np.uint8))


@pytest.fixture(scope="module")
def gallery(server: RunningServer) -> Tenant:
    """A publisher of two posters and one that is inactive."""
    tenant = server.tenant()
    for number, picture in enumerate(artworks()[:3]):
        tenant.client.register(encoded(picture), link=LINK, reference_id=f"poster-{number}")
    tenant.client.update_reference("poster-2", publisher=tenant.id, active=False)
    return tenant


def size_of(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture), formats=["JPEG"]) as image:
        image.load()
        return image.size


def test_a_matched_photo_is_explained_as_the_scan_answers_it(gallery: Tenant) -> None:
    scanned = gallery.client.scan(PHOTO, min_gallery_version=4)
    result = gallery.client.explain(PHOTO, min_gallery_version=4)
    assert (result.model_version, result.gallery_version) == (scanned.model_version, 4)
    assert result.no_match_reason is None
    best, *others = result.explanations
    assert best.reference == f"{gallery.name}/references/poster-0"
    assert best.accepted
    assert best.verdict is Verdict.ACCEPTED
    assert scanned.best is not None
    assert best.probability == pytest.approx(scanned.best.probability, abs=1e-3)
    assert 0 < best.threshold <= best.probability
    assert best.evidence is not None
    assert best.evidence.inliers == scanned.best.evidence.inliers
    assert 0 < best.evidence.inliers <= best.evidence.matches <= best.photo_keypoints
    assert best.location is not None
    assert corners_of(best.location) == pytest.approx(corners_of(scanned.best.location), abs=1)
    assert best.channel
    width, height = size_of(best.picture)
    assert min(width, height) > 300
    assert {each.reference_id for each in others} <= {"poster-1"}
    assert not any(each.accepted for each in others)


def test_a_photo_of_something_else_is_explained_by_what_it_lacks(gallery: Tenant) -> None:
    result = gallery.client.explain(STRANGER, min_gallery_version=4)
    assert result.no_match_reason is not None
    compared = {each.reference: each for each in result.explanations}
    for number in (0, 1):
        name = f"{gallery.name}/references/poster-{number}"
        (each,) = gallery.client.explain(STRANGER, reference=name).explanations
        assert not each.accepted
        assert each.verdict in (
            {Verdict.BELOW_THRESHOLD, Verdict.IMPLAUSIBLE_QUAD}
            if name in compared
            else {Verdict.NOT_A_CANDIDATE}
        )
        assert each.verdict is not Verdict.BELOW_THRESHOLD or each.probability < each.threshold
        assert size_of(each.picture)


def test_a_reference_that_is_no_candidate_is_shown_beside_the_photo(gallery: Tenant) -> None:
    name = f"{gallery.name}/references/poster-1"
    result = gallery.client.explain(BLANK, reference=name, min_gallery_version=4)
    assert result.no_match_reason is NoMatchReason.IMAGE_TOO_POOR
    (explanation,) = result.explanations
    assert explanation.reference == name
    assert explanation.verdict is Verdict.NOT_A_CANDIDATE
    assert explanation.evidence is None
    assert explanation.location is None
    assert size_of(explanation.picture)
    assert gallery.client.explain(BLANK, min_gallery_version=4).explanations == ()


def test_only_the_reference_asked_about_is_explained(gallery: Tenant) -> None:
    result = gallery.client.explain(PHOTO, reference="poster-0", publisher=gallery.id)
    assert [each.reference_id for each in result.explanations] == ["poster-0"]
    assert result.explanations[0].accepted


def test_an_inactive_reference_is_said_to_be_so(gallery: Tenant) -> None:
    photo = encoded(photo_of(artworks()[2]).photo)
    asked = {"reference": "poster-2", "publisher": gallery.id, "min_gallery_version": 4}
    (explanation,) = gallery.client.explain(photo, **asked).explanations
    assert explanation.verdict is Verdict.INACTIVE
    assert size_of(explanation.picture)


def test_of_one_picture_registered_twice_one_gave_way(tenant: Tenant) -> None:
    for name in ("first", "second"):
        tenant.client.register(encoded(artworks()[0]), link=LINK, reference_id=name)
    result = tenant.client.explain(PHOTO, min_gallery_version=2)
    verdicts = [each.verdict for each in result.explanations]
    assert verdicts == [Verdict.ACCEPTED, Verdict.SAME_PLACE_AS_BETTER]
    only = tenant.client.explain(PHOTO, max_explanations=1)
    assert [each.verdict for each in only.explanations] == [Verdict.ACCEPTED]


async def test_the_async_client_explains_too(server: RunningServer, gallery: Tenant) -> None:
    async with AsyncClient(server.target, key=gallery.publish_key) as client:
        result = await client.explain(PHOTO, min_gallery_version=4, max_explanations=1)
    assert [each.reference_id for each in result.explanations] == ["poster-0"]


def test_a_key_to_scan_may_not_see_references(server: RunningServer, gallery: Tenant) -> None:
    with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        server.client(gallery.scan_key).explain(PHOTO)
    with refused(Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        server.operator.explain(PHOTO)


def test_the_reference_of_another_publisher_stays_hidden(gallery: Tenant, tenant: Tenant) -> None:
    with refused(Code.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
        tenant.client.explain(PHOTO, reference=f"{gallery.name}/references/poster-0")
    assert tenant.client.explain(PHOTO).explanations == ()


def test_an_unknown_reference_is_not_found(gallery: Tenant) -> None:
    with refused(Code.NOT_FOUND, "REFERENCE_NOT_FOUND"):
        gallery.client.explain(PHOTO, reference="unknown", publisher=gallery.id)


@pytest.mark.parametrize("photo", [b"", b"no image", PHOTO[: len(PHOTO) // 2]])
def test_a_bad_photo_is_refused(gallery: Tenant, photo: bytes) -> None:
    with refused(Code.INVALID_ARGUMENT, "IMAGE_INVALID", "image"):
        gallery.client.explain(photo)


def test_malformed_fields_are_named(gallery: Tenant) -> None:
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "reference"):
        gallery.client.explain(PHOTO, reference="poster/0")
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "max_explanations"):
        gallery.client.explain(PHOTO, max_explanations=-1)
    with refused(Code.INVALID_ARGUMENT, "FIELD_INVALID", "min_gallery_version"):
        gallery.client.explain(PHOTO, min_gallery_version=-1)


def test_the_command_prints_why_and_writes_the_pictures(
    server: RunningServer, gallery: Tenant, tmp_path: Path
) -> None:
    photo, folder = tmp_path / "photo.jpg", tmp_path / "why"
    photo.write_bytes(PHOTO)
    told = output(server, gallery.publish_key, "explain", photo, "--output", folder)
    assert "poster-0" in told
    assert "accepted" in told
    assert size_of((folder / "photo-poster-0.jpg").read_bytes())
    one = ("--reference", "poster-2", "--publisher", gallery.id, "--output", folder)
    told = output(server, gallery.publish_key, "explain", photo, *one, "--json")
    (explanation,) = json.loads(told)["explanations"]
    assert explanation["verdict"] == "inactive"
    assert size_of(Path(explanation["picture"]).read_bytes())
