"""How scans went, by publisher and model version, in PostgreSQL.

Every method raises DatabaseUnavailable where the database does not answer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from psycopg_pool import AsyncConnectionPool

from indexing.gallery_statements import fetch_one, transaction
from indexing.queries import QUERIES
from indexing.rollout import ScanRates, ShadowAgreement

KEPT = timedelta(hours=3)


class ScanCountStore:
    """The counts of all scanners together."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def add(self, counts: Mapping[tuple[str, str], ScanRates]) -> None:
        """Add the scans of a moment ago, by (publisher, model version)."""
        parameters = [
            {
                "publisher": publisher,
                "version": version,
                "scans": rates.scans,
                "matches": rates.matches,
                "seconds": rates.seconds,
            }
            # In one order everywhere: scanners that add at once do not wait in a circle.
            for (publisher, version), rates in sorted(counts.items(), key=lambda each: each[0])
        ]
        async with transaction(self._pool) as connection:
            await connection.cursor().executemany(QUERIES["count_scans"], parameters)
            await connection.execute(QUERIES["forget_scan_counts"], {"age": KEPT})

    async def rates(
        self, version: str, since: datetime, until: datetime, publishers: Sequence[str] | None
    ) -> ScanRates:
        """Return how a version's scans went in the minutes from ``since`` to ``until``.

        Those of some publishers, or for None of all.
        """
        async with transaction(self._pool) as connection:
            row = await fetch_one(
                connection,
                "scan_rates",
                version=version,
                since=since,
                until=until,
                publishers=None if publishers is None else list(publishers),
            )
        assert row is not None, "sums have a row"
        scans, matches, seconds = row
        return ScanRates(int(scans), int(matches), float(seconds))

    async def add_shadows(self, rollout: str, counts: ShadowAgreement) -> None:
        """Add scans that both versions of a rollout answered."""
        parameters = {
            "id": rollout,
            "scans": counts.scans,
            "agreed": counts.agreed,
            "former_only": counts.former_only,
            "new_only": counts.new_only,
        }
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["count_shadows"], parameters)

    async def shadows(self, rollout: str) -> ShadowAgreement:
        """Return how far both versions of a rollout agree."""
        async with transaction(self._pool) as connection:
            row = await fetch_one(connection, "shadow_counts", id=rollout)
        return ShadowAgreement(*row) if row else ShadowAgreement()
