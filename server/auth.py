"""API keys: their form, and who calls with one.

A key is ``il_ID_SECRET``. Only the SHA-256 of the secret is kept: with 256 random bits, a slow
hash would add nothing but latency.
"""

import asyncio
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cachetools import LRUCache

from indexing.errors import (
    ApiKeyExpired,
    ApiKeyInvalid,
    ApiKeyMissing,
    DatabaseUnavailable,
    PublisherSuspended,
    RoleNotAllowed,
)
from indexing.gallery import GalleryStore
from indexing.gallery_records import StoredKey
from indexing.reference import Publisher, Role

PREFIX = "il"
OPERATOR_ID = "operator"
FRESH_SECONDS = 5.0
"""How long a key that was looked up is used without asking again."""
STALE_SECONDS = 24 * 3600.0
"""How long it is used while the database does not answer."""
PATIENCE_SECONDS = 0.5
"""How long a caller whose key is known waits for a database that does not answer."""
MAX_KEYS = 10_000
# Who may call a method.
SCAN = frozenset({Role.SCAN, Role.PUBLISH})
PUBLISH = frozenset({Role.PUBLISH})
OPERATE = frozenset({Role.OPERATE})


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: ``text`` is for its owner, ``secret_sha256`` for the database."""

    id: str
    text: str
    secret_sha256: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the key's role and id, and its publisher unless the operator's."""

    role: Role
    publisher: Publisher | None
    key_id: str


def new_key(key_id: str | None = None) -> NewKey:
    """Makes a random key."""
    key_id = key_id or secrets.token_hex(8)
    secret = secrets.token_urlsafe(32)
    return NewKey(key_id, f"{PREFIX}_{key_id}_{secret}", _hash(secret))


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as of ``time``; ``tried`` is when the database last did not say more."""

    stored: StoredKey
    time: float
    tried: float = -math.inf


class KeyCache:
    """The API keys that the database told of, so that scans go on while it is away.

    Only keys that open something are kept. One is looked up again when it is five seconds old;
    where the database does not answer that, it stays good for a day. The clock is monotonic: a
    jump of the system's time changes nothing.
    """

    def __init__(
        self,
        look_up: Callable[[str], Awaitable[StoredKey | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._clock = clock
        self._known: LRUCache[str, _Known] = LRUCache(MAX_KEYS)
        self._lookups: dict[str, asyncio.Task[StoredKey | None]] = {}
        self._forgot = -math.inf

    def forget(self, publisher: str) -> None:
        """Forgets a publisher's keys: they are looked up again before they open anything."""
        self._forgot = self._clock()
        self._lookups.clear()
        known = self._known.items()
        for key_id in [key_id for key_id, each in known if each.stored.key.publisher == publisher]:
            del self._known[key_id]

    async def find(self, key_id: str) -> StoredKey | None:
        """A key with its publisher, or None where there is none.

        Raises DatabaseUnavailable for a key that is not known where the database is away.
        """
        known, now = self._known.get(key_id), self._clock()
        if known is None or now - known.time > STALE_SECONDS:
            return await asyncio.shield(self._lookup(key_id))
        if now - max(known.time, known.tried) < FRESH_SECONDS:
            return known.stored
        lookup = self._lookup(key_id)
        await asyncio.wait([lookup], timeout=PATIENCE_SECONDS)
        if lookup.done() and not isinstance(lookup.exception(), DatabaseUnavailable):
            return lookup.result()
        # Nobody waits again for the next seconds; the look-up goes on if it hangs.
        if self._known.get(key_id) is known:
            self._known[key_id] = replace(known, tried=self._clock())
        return known.stored

    def _lookup(self, key_id: str) -> "asyncio.Task[StoredKey | None]":
        """The look-up of a key that is on its way, which all who wait for it share."""
        if key_id not in self._lookups:
            task = self._lookups[key_id] = asyncio.ensure_future(self._refresh(key_id))
            task.add_done_callback(lambda done: self._finish(key_id, done))
        return self._lookups[key_id]

    async def _refresh(self, key_id: str) -> StoredKey | None:
        # As of before the question: what is revoked meanwhile may not be in the answer.
        asked = self._clock()
        stored = await self._look_up(key_id)
        if stored is None or not _opens(stored):
            self._known.pop(key_id, None)
        elif asked > self._forgot:
            self._known[key_id] = _Known(stored, asked)
        return stored

    def _finish(self, key_id: str, done: "asyncio.Task[StoredKey | None]") -> None:
        if self._lookups.get(key_id) is done:
            del self._lookups[key_id]
        if not done.cancelled():
            done.exception()  # Seen, also where everybody who waited for it has gone.


def _opens(stored: StoredKey) -> bool:
    suspended = stored.publisher is not None and stored.publisher.suspended
    return stored.key.revoke_time is None and not suspended


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authenticator:
    """Finds out who calls. The operator's key is in the settings, the others in the database.

    A change of keys or of a suspension takes effect within FRESH_SECONDS while the database
    answers, and at once in the process whose ``keys`` were told to forget them.
    """

    def __init__(
        self,
        store: GalleryStore,
        operator_key: str,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.keys = KeyCache(store.find_api_key)
        self._operator_sha256 = _hash(operator_key)
        self._now = now

    async def authenticate(
        self, metadata: Iterable[tuple[str, str | bytes]], roles: frozenset[Role]
    ) -> Caller:
        """The caller of a request with this metadata.

        Raises ApiKeyMissing, ApiKeyInvalid, ApiKeyExpired, RoleNotAllowed, PublisherSuspended,
        or DatabaseUnavailable for a key that was not looked up lately.
        """
        caller = await self._caller(_bearer(metadata))
        if caller.role not in roles:
            needed = " or ".join(f"'{role}'" for role in sorted(roles))
            raise RoleNotAllowed(role=caller.role, needed=needed)
        if caller.publisher is not None and caller.publisher.suspended:
            raise PublisherSuspended(publisher=caller.publisher.id)
        return caller

    async def _caller(self, text: str) -> Caller:
        if hmac.compare_digest(_hash(text), self._operator_sha256):
            return Caller(Role.OPERATE, None, OPERATOR_ID)
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        stored = await self.keys.find(key_id) if prefix == PREFIX and secret else None
        if stored is None or not hmac.compare_digest(stored.secret_sha256, _hash(secret)):
            raise ApiKeyInvalid
        if stored.key.revoke_time is not None:
            raise ApiKeyInvalid
        # Here and not where keys are looked up: one that is remembered ends in time too.
        expire_time = stored.key.expire_time
        if expire_time is not None and expire_time <= self._now():
            raise ApiKeyExpired(api_key=key_id, expire_time=expire_time.isoformat(" ", "seconds"))
        return Caller(stored.key.role, stored.publisher, key_id)


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for name, value in metadata:
        if name.lower() == "authorization":
            scheme, _, key = (
                value if isinstance(value, str) else value.decode("latin1")
            ).partition(" ")
            if scheme.lower() == "bearer" and key.strip():
                return key.strip()
            raise ApiKeyInvalid
    raise ApiKeyMissing


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
