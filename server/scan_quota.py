"""The quota of scans: how many a publisher may have done in a second."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from indexing.errors import ScanQuotaExceeded
from indexing.reference import Publisher

MAX_PUBLISHERS = 10_000


@dataclass(frozen=True, slots=True)
class _Bucket:
    """How many scans a publisher had left at a time."""

    tokens: float
    time: float


class ScanQuota:
    """Holds the scans of each publisher in this process to its ``max_scans_per_second``.

    A token bucket (Turner, "New directions in communications", 1986): it holds a second's worth
    of scans, and one at least. The clock is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # One that is forgotten begins anew, with a full bucket.
        self._buckets: LRUCache[str, _Bucket] = LRUCache(MAX_PUBLISHERS)

    def take(self, publisher: Publisher) -> None:
        """Counts a scan. Raises ScanQuotaExceeded, and counts nothing then."""
        rate = publisher.max_scans_per_second
        if not rate:
            return
        now, full = self._clock(), max(1.0, rate)
        before = self._buckets.get(publisher.id, _Bucket(full, now))
        tokens = min(full, before.tokens + (now - before.time) * rate)
        if tokens < 1:
            raise _exceeded(publisher, (1 - tokens) / rate)
        self._buckets[publisher.id] = _Bucket(tokens - 1, now)


def _exceeded(publisher: Publisher, seconds: float) -> ScanQuotaExceeded:
    # Rounded up: who comes back then is not refused for a rounding error.
    retry_after = math.ceil(seconds * 1000) / 1000
    limit = f"{publisher.max_scans_per_second:g}"
    return ScanQuotaExceeded(publisher=publisher.id, limit=limit, retry_after=retry_after)
