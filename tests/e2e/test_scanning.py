"""From a photo to a link, through the real server."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from imagelink import Client, NoMatchReason

from tests.e2e.harness import RunningServer, Tenant, refused
from tests.e2e.pictures import (
    Picture,
    artworks,
    corner_error,
    encoded,
    patchwork,
    photo_of,
    side_by_side,
    strangers,
)

LINK = "https://example.com/picture"


def register(tenant: Tenant, picture: Picture, reference_id: str, link: str = LINK) -> int:
    """Registers a picture, and returns the gallery version that has it."""
    written = tenant.client.register(encoded(picture), link=link, reference_id=reference_id)
    return written.gallery_version


@pytest.fixture(scope="module")
def gallery(server: RunningServer) -> Tenant:
    """A publisher of three posters."""
    tenant = server.tenant()
    for number, picture in enumerate(artworks()[:3]):
        tenant.client.register(
            encoded(picture),
            link=f"{LINK}/{number}",
            reference_id=f"poster-{number}",
            metadata={"number": str(number), "title": "Straße №"},
        )
    return tenant


@pytest.mark.parametrize("number", range(3))
def test_photo_of_a_registered_picture_is_answered_with_its_link(
    gallery: Tenant, number: int
) -> None:
    view = photo_of(artworks()[number], seed=number)
    result = gallery.client.scan(encoded(view.photo), min_gallery_version=3)
    assert [match.reference_id for match in result.matches] == [f"poster-{number}"]
    match = result.matches[0]
    assert match.reference == f"{gallery.name}/references/poster-{number}"
    assert match.link == f"{LINK}/{number}"
    assert match.metadata == {"number": str(number), "title": "Straße №"}
    assert 0.5 < match.probability <= 1
    # A corner of the picture lies half a pixel beyond the centre of its last pixel.
    assert corner_error(match.location, view.quad + 0.5) < 0.05
    assert match.evidence.inliers > 4
    assert 0 < match.evidence.inlier_ratio <= 1
    assert result.no_match_reason is None
    assert result.gallery_version == 3
    assert result.model_version
    assert result.scan_id
    assert {"decode", "features", "search"} <= set(result.timings)


def test_photo_of_an_unregistered_picture_is_answered_with_a_reason(gallery: Tenant) -> None:
    for number, picture in enumerate(strangers()):
        result = gallery.client.scan(encoded(photo_of(picture, seed=number).photo))
        assert result.matches == ()
        assert result.no_match_reason in {
            NoMatchReason.NOTHING_SIMILAR,
            NoMatchReason.NOT_VERIFIED,
            NoMatchReason.AMBIGUOUS,
        }


def test_empty_gallery_has_nothing_registered(tenant: Tenant) -> None:
    result = tenant.client.scan(encoded(artworks()[0]))
    assert result.matches == ()
    assert result.no_match_reason is NoMatchReason.NOTHING_REGISTERED
    assert result.gallery_version == 0


def test_key_to_scan_scans(server: RunningServer, gallery: Tenant) -> None:
    result = server.client(gallery.scan_key).scan(encoded(artworks()[0]))
    assert result.best is not None
    assert result.best.reference_id == "poster-0"


def test_scan_sees_the_write_that_it_names(tenant: Tenant) -> None:
    for number in range(10):
        image = encoded(patchwork(number))
        written = tenant.client.register(image, link=LINK, reference_id=f"p-{number}")
        result = tenant.client.scan(image, min_gallery_version=written.gallery_version)
        assert [match.reference_id for match in result.matches] == [f"p-{number}"]
        assert result.gallery_version >= written.gallery_version == number + 1


def test_version_that_does_not_exist_yet_is_not_reached(gallery: Tenant) -> None:
    image = encoded(artworks()[0])
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "GALLERY_VERSION_NOT_REACHED"):
        gallery.client.scan(image, min_gallery_version=1_000_000)
    assert gallery.client.scan(image).gallery_version == 3


def test_both_pictures_in_a_photo_are_found(gallery: Tenant) -> None:
    result = gallery.client.scan(encoded(side_by_side(artworks()[:2])))
    assert {match.reference_id for match in result.matches} == {"poster-0", "poster-1"}
    lefts = {match.reference_id: match.location.top_left.x for match in result.matches}
    assert lefts["poster-0"] < lefts["poster-1"]


def test_inactive_reference_is_not_found_until_it_is_active_again(tenant: Tenant) -> None:
    image = encoded(artworks()[0])
    version = register(tenant, artworks()[0], "picture")
    assert tenant.client.scan(image, min_gallery_version=version)

    hidden = tenant.client.update_reference("picture", active=False, publisher=tenant.id)
    assert not hidden.reference.active
    result = tenant.client.scan(image, min_gallery_version=hidden.gallery_version)
    assert result.no_match_reason is NoMatchReason.NOTHING_REGISTERED

    shown = tenant.client.update_reference("picture", active=True, publisher=tenant.id)
    assert tenant.client.scan(image, min_gallery_version=shown.gallery_version)


def test_updated_link_and_metadata_are_answered(tenant: Tenant) -> None:
    register(tenant, artworks()[0], "picture")
    written = tenant.client.update_reference(
        "picture", link="app://new", metadata={"a": "b"}, publisher=tenant.id
    )
    result = tenant.client.scan(encoded(artworks()[0]), min_gallery_version=written.gallery_version)
    assert result.best is not None
    assert result.best.link == "app://new"
    assert result.best.metadata == {"a": "b"}


def test_deleted_reference_is_not_found(tenant: Tenant) -> None:
    register(tenant, artworks()[0], "gone")
    register(tenant, artworks()[1], "stays")
    version = tenant.client.delete_reference("gone", publisher=tenant.id).gallery_version
    assert not tenant.client.scan(encoded(artworks()[0]), min_gallery_version=version)
    result = tenant.client.scan(encoded(artworks()[1]), min_gallery_version=version)
    assert result.best is not None
    assert result.best.reference_id == "stays"
    assert [each.id for each in tenant.client.list_references()] == ["stays"]
    with refused(grpc.StatusCode.NOT_FOUND, "REFERENCE_NOT_FOUND"):
        tenant.client.get_reference("gone", publisher=tenant.id)


def test_scans_of_many_publishers_at_once_are_not_mixed_up(server: RunningServer) -> None:
    tenants = [server.tenant() for _ in range(4)]
    for number, each in enumerate(tenants):
        register(each, artworks()[number], "own", f"{LINK}/{number}")

    def scan(number: int) -> tuple[int, list[str]]:
        shown, asked = number % 5, number % 4
        result = tenants[asked].client.scan(encoded(artworks()[shown]), min_gallery_version=1)
        return number, [match.link for match in result.matches]

    with ThreadPoolExecutor(20) as pool:
        for number, links in pool.map(scan, range(40)):
            expected = [f"{LINK}/{number % 4}"] if number % 5 == number % 4 else []
            assert links == expected


def test_two_publishers_of_the_same_picture_get_their_own_links(server: RunningServer) -> None:
    image = encoded(artworks()[0])
    ours, theirs = server.tenant(), server.tenant()
    register(ours, artworks()[0], "same", "https://ours.example/")
    register(theirs, artworks()[0], "same", "https://theirs.example/")
    for tenant, link in ((ours, "https://ours.example/"), (theirs, "https://theirs.example/")):
        for key in (tenant.publish_key, tenant.scan_key):
            result = server.client(key).scan(image, min_gallery_version=1)
            assert [match.link for match in result.matches] == [link]
            assert result.matches[0].reference == f"{tenant.name}/references/same"


def test_no_key_reaches_the_references_of_another_publisher(server: RunningServer) -> None:
    ours, theirs = server.tenant(), server.tenant()
    register(theirs, artworks()[0], "secret")
    name = f"{theirs.name}/references/secret"

    def calls(client: Client) -> None:
        with refused(grpc.StatusCode.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
            client.get_reference(name)
        with refused(grpc.StatusCode.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
            list(client.list_references(publisher=theirs.id))
        with refused(grpc.StatusCode.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
            client.update_reference(name, link=f"{LINK}/stolen")
        with refused(grpc.StatusCode.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
            client.delete_reference(name)
        with refused(grpc.StatusCode.PERMISSION_DENIED, "PUBLISHER_NOT_ALLOWED"):
            client.register(encoded(artworks()[1]), link=LINK, publisher=theirs.id)

    calls(ours.client)
    assert list(ours.client.list_references()) == []
    assert not ours.client.scan(encoded(artworks()[0]))
    assert [each.link for each in theirs.client.list_references()] == [LINK]
