"""Forecasts of how well an image will scan, through the real server."""

import json
import uuid
from pathlib import Path

import grpc
import numpy as np
import pytest
from imagelink import Assessment, Client, ImageIssueKind, ImageLinkError, ViewingCondition
from PIL import Image

from tests.e2e.harness import RunningServer, Tenant, refused
from tests.e2e.pictures import Picture, artworks, encoded, patchwork
from tests.e2e.test_cli import output, run

LINK = "https://example.com/picture"
GOOD = np.asarray(Image.fromarray(patchwork(8)).resize((512, 512)))


@pytest.fixture(scope="module")
def gallery(server: RunningServer) -> Tenant:
    """A publisher of one poster."""
    tenant = server.tenant()
    tenant.client.register(encoded(artworks()[0]), link=LINK, reference_id="poster")
    return tenant


def with_a_small_emblem() -> Picture:
    """A plain picture with all of its details in a corner."""
    picture = np.full((600, 600, 3), 240, np.uint8)
    picture[20:100, 20:100] = patchwork(6, 80)
    return picture


def test_good_picture_will_scan_and_is_not_stored(gallery: Tenant) -> None:
    assessment = gallery.client.assess_image(encoded(GOOD))
    assert assessment.detection_rate > 0.7
    assert assessment.mean_margin > 0
    assert assessment.duplicates == assessment.rivals == assessment.issues == ()
    assert assessment.view_count == sum(each.view_count for each in assessment.conditions) > 30
    assert {each.condition for each in assessment.conditions} == set(ViewingCondition) - {
        ViewingCondition.UNKNOWN
    }
    assert assessment.min_frame_share is not None
    widths = [size.width_cm for size in assessment.min_print_sizes]
    assert widths == sorted(widths)
    assert 1 < widths[0] < 50
    assert assessment.model_version

    assert [each.id for each in gallery.client.list_references()] == ["poster"]
    result = gallery.client.scan(encoded(GOOD))
    assert not result
    assert result.gallery_version == assessment.gallery_version == 1


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (encoded(np.full((256, 256, 3), 128, np.uint8)), "IMAGE_TOO_PLAIN"),
        (encoded(patchwork(1, 63)), "IMAGE_TOO_SMALL"),
        (b"not an image", "IMAGE_INVALID"),
        (bytes(8 * 1024 * 1024 + 1), "IMAGE_TOO_LARGE"),
    ],
)
def test_what_registration_refuses_is_refused(tenant: Tenant, image: bytes, reason: str) -> None:
    for assess in (False, True):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, reason, "image"):
            tenant.client.register(image, link=LINK, assess=assess)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, reason, "image"):
        tenant.client.assess_image(image)


def test_registered_picture_is_named_even_turned(gallery: Tenant) -> None:
    turned = Image.fromarray(artworks()[0]).rotate(90, expand=True)
    assessment = gallery.client.assess_image(encoded(turned))
    assert [each.reference for each in assessment.duplicates] == [
        f"{gallery.name}/references/poster"
    ]
    assert assessment.duplicates[0].reference_id == "poster"
    assert ImageIssueKind.ALREADY_REGISTERED in [issue.kind for issue in assessment.issues]


def test_picture_with_all_details_in_a_corner_is_advised(tenant: Tenant) -> None:
    assessment = tenant.client.assess_image(encoded(with_a_small_emblem(), "PNG"))
    assert assessment.detection_rate < 0.8
    advice = {issue.kind: issue.advice for issue in assessment.issues}
    assert "spread them" in advice[ImageIssueKind.DETAILS_CLUSTERED]


def test_registration_assesses_when_asked_and_repeats_it(tenant: Tenant) -> None:
    image, request_id = encoded(artworks()[0]), str(uuid.uuid4())

    def register(assess: bool) -> tuple[int, object]:
        written = tenant.client.register(image, link=LINK, request_id=request_id, assess=assess)
        return written.gallery_version, written.assessment

    assert register(assess=False) == (1, None)
    version, assessment = register(assess=True)
    assert version == 1
    assert isinstance(assessment, Assessment)
    # It is no duplicate of itself, nor of what another publisher has.
    assert assessment.duplicates == ()
    assert assessment.detection_rate > 0.6
    assert assessment.gallery_version == 1
    assert register(assess=True) == (1, assessment)


def test_only_a_publisher_s_own_key_assesses(server: RunningServer, gallery: Tenant) -> None:
    image = encoded(GOOD)
    scanner: Client = server.client(gallery.scan_key)
    with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
        scanner.assess_image(image)
    with refused(grpc.StatusCode.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
        gallery.client.assess_image(image, publisher="somebody-else")
    with pytest.raises(ImageLinkError, match="malformed"):
        server.client("il_wrong_key").assess_image(image)


def test_command_line_assesses_files(server: RunningServer, tenant: Tenant, tmp_path: Path) -> None:
    good, plain = tmp_path / "Good.png", tmp_path / "plain.png"
    good.write_bytes(encoded(GOOD, "PNG"))
    plain.write_bytes(encoded(np.full((256, 256, 3), 128, np.uint8), "PNG"))

    done = run(server, tenant.publish_key, "assess", good, plain)
    assert done.returncode == 1
    assert "Good.png: recognised in " in done.stdout
    assert "tilted" in done.stdout
    assert "To be recognised, print it at least so large:" in done.stdout
    assert done.stderr.startswith(f"{plain}: The image has too little detail")

    told = output(
        server, tenant.publish_key, "register", good, "--link", LINK, "--assess", "--json"
    )
    recorded = json.loads(told)
    assert recorded["status"] == "registered"
    assert recorded["assessment"]["detection_rate"] > 0.7
    refused_one = run(server, tenant.publish_key, "assess", plain, "--json")
    assert refused_one.returncode == 1
    assert "too little detail" in json.loads(refused_one.stdout)["error"]
