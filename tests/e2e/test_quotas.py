"""A publisher's quotas, set through the API and met by its calls."""

from collections.abc import Callable

import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from imagelink import FrameFailure, Registration, ResourceExhausted, SessionEnd

from tests.e2e.harness import RunningServer, Tenant
from tests.e2e.pictures import artworks, encoded, photo_of

LINK = "https://example.com"
PICTURES = [encoded(picture) for picture in artworks()[:4]]


def beyond_the_quota(tenant: Tenant, reason: str, call: Callable[[], object]) -> float | None:
    """Asserts that a call is refused for a quota of the publisher; returns when to come back."""
    with pytest.raises(ResourceExhausted) as caught:
        call()
    assert caught.value.reason == reason
    status = rpc_status.from_call(caught.value.__cause__)  # type: ignore[arg-type]
    failure = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(failure) for detail in status.details)
    (violation,) = failure.violations
    assert violation.subject == tenant.name
    assert "ask the operator for more" in violation.description
    return caught.value.retry_after


def register(tenant: Tenant, number: int) -> None:
    tenant.client.register(PICTURES[number], link=LINK, reference_id=f"poster-{number}")


def test_references_beyond_the_quota_are_refused(server: RunningServer, tenant: Tenant) -> None:
    assert server.operator.update_publisher(tenant.id, max_references=2).max_references == 2
    register(tenant, 0)
    register(tenant, 1)
    reason = "REFERENCE_QUOTA_EXCEEDED"
    assert beyond_the_quota(tenant, reason, lambda: register(tenant, 2)) is None

    batch = [Registration(PICTURES[n], LINK, f"poster-{n}") for n in (1, 2, 3)]
    failed = {
        result.registration.reference_id: result.error
        for result in tenant.client.register_all(batch)
    }
    assert {name: error.reason for name, error in failed.items()} == {
        "poster-1": "REFERENCE_ALREADY_EXISTS",
        "poster-2": reason,
        "poster-3": reason,
    }
    added = tenant.client.add_image("poster-0", PICTURES[3], publisher=tenant.id)
    assert len(added.reference.images) == 2
    tenant.client.delete_reference("poster-1", publisher=tenant.id)
    register(tenant, 2)
    assert [each.id for each in tenant.client.list_references()] == ["poster-0", "poster-2"]


def test_scans_beyond_the_quota_are_refused_unseen(server: RunningServer, tenant: Tenant) -> None:
    bounded = server.operator.update_publisher(tenant.id, max_scans_per_second=0.05)
    assert bounded.max_scans_per_second == 0.05
    client, photo = tenant.client, encoded(photo_of(artworks()[0]).photo)
    client.scan(photo)
    reason = "SCAN_QUOTA_EXCEEDED"
    for call in (lambda: client.scan(b"no image"), lambda: client.explain(photo)):
        retry_after = beyond_the_quota(tenant, reason, call)
        assert retry_after is not None
        assert 0 < retry_after < 20
    failure, end = client.scan_stream([photo])
    assert isinstance(failure, FrameFailure)
    assert failure.error.reason == reason
    assert isinstance(end, SessionEnd)

    server.operator.update_publisher(tenant.id, max_scans_per_second=0)
    for _ in range(3):
        client.scan(photo)
