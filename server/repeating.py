"""Steps that a process does again and again, whatever becomes of one."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from indexing.errors import DatabaseUnavailable

log = structlog.get_logger()


async def repeat(what: str, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
    """Does a step every so many seconds, without end; ``what`` names it in the log."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await step()
        except DatabaseUnavailable:
            log.info(f"{what} waits for the database")
        except Exception:
            # Whatever a shard or the start of a process raises: the next round tries again.
            log.exception(f"{what} waits")
