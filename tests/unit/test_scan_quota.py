"""The quota of scans, by a clock that stands until it is told to go on."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from indexing.errors import ImageLinkError, ScanQuotaExceeded
from indexing.reference import Publisher
from server.fair_queue import QueueLimits
from server.scan_quota import ScanQuota
from server.scanning import Scanning
from server.status import reason

ACME = Publisher("acme", "", False, 0.001, 0, datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Clock:
    time: float = 1000.0

    def __call__(self) -> float:
        return self.time


def with_quota(scans_per_second: float) -> Publisher:
    return replace(ACME, max_scans_per_second=scans_per_second)


def accepted(quota: ScanQuota, publisher: Publisher, asked: int) -> int:
    """How many of so many scans at one moment are accepted."""
    return sum(refusal(quota, publisher) is None for _ in range(asked))


def refusal(quota: ScanQuota, publisher: Publisher) -> ScanQuotaExceeded | None:
    try:
        quota.take(publisher)
    except ScanQuotaExceeded as error:
        return error
    return None


def test_without_a_quota_nothing_is_refused() -> None:
    assert accepted(ScanQuota(Clock()), ACME, 10_000) == 10_000


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 10), (2.5, 2), (1.0, 1), (0.1, 1)])
def test_a_burst_is_of_a_seconds_worth_and_of_one_scan_at_least(rate: float, burst: int) -> None:
    assert accepted(ScanQuota(Clock()), with_quota(rate), 50) == burst


@pytest.mark.parametrize("rate", [0.1, 1.0, 2.5, 10.0])
def test_no_more_than_the_quota_is_accepted_however_often_it_is_asked_for(rate: float) -> None:
    clock = Clock()
    quota, seconds = ScanQuota(clock), 100
    taken = 0
    for _ in range(seconds * 40):
        taken += accepted(quota, with_quota(rate), 1)
        clock.time += 1 / 40
    assert seconds * rate - 1 <= taken <= seconds * rate + max(1, rate)


def test_time_without_scans_saves_up_a_seconds_worth_alone() -> None:
    clock = Clock()
    quota = ScanQuota(clock)
    assert accepted(quota, with_quota(4.0), 9) == 4
    clock.time += 3600
    assert accepted(quota, with_quota(4.0), 9) == 4


@pytest.mark.parametrize("rate", [0.001, 0.3, 7.0, 1000.0])
def test_whoever_waits_as_long_as_told_is_accepted(rate: float) -> None:
    clock = Clock()
    quota, publisher = ScanQuota(clock), with_quota(rate)
    accepted(quota, publisher, 1001)
    for _ in range(20):
        refused = refusal(quota, publisher)
        assert refused is not None
        seconds = float(refused.details["retry_after"])
        assert seconds == pytest.approx(1 / rate, abs=0.001)
        clock.time += seconds + 1e-9
        quota.take(publisher)


def test_a_changed_quota_holds_from_the_next_scan_on() -> None:
    clock = Clock()
    quota = ScanQuota(clock)
    assert accepted(quota, with_quota(0.001), 5) == 1
    clock.time += 1
    assert accepted(quota, with_quota(5.0), 9) == 5
    assert accepted(quota, ACME, 9) == 9
    clock.time += 1
    assert accepted(quota, with_quota(1.0), 9) == 1


def test_publishers_have_quotas_of_their_own() -> None:
    quota = ScanQuota(Clock())
    assert accepted(quota, with_quota(3.0), 9) == 3
    assert accepted(quota, replace(with_quota(3.0), id="other"), 9) == 3


async def test_a_scan_beyond_the_quota_is_counted_and_costs_nothing() -> None:
    failed: list[ImageLinkError] = []
    meter = SimpleNamespace(failed=failed.append)
    scanning = Scanning(None, None, None, meter, QueueLimits(1, 1, 9, 9.0))  # type: ignore[arg-type]
    publisher = with_quota(1.0)
    scanning._quota.take(publisher)
    # Were it decoded, the lack of a model would be a fault.
    with pytest.raises(ScanQuotaExceeded):
        await asyncio.wait_for(scanning.scan(publisher, b"no image", 0), 5)
    assert [reason(error) for error in failed] == ["SCAN_QUOTA_EXCEEDED"]
