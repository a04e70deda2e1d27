"""API keys: their form, and who calls with one.

A key is ``il_ID_SECRET``. Only the SHA-256 of the secret is kept: with 256 random bits, a slow
hash would add nothing but latency.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from indexing.errors import ApiKeyInvalid, ApiKeyMissing, PublisherSuspended, RoleNotAllowed
from indexing.gallery import GalleryStore
from indexing.reference import Publisher, Role

PREFIX = "il"
OPERATOR_ID = "operator"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: ``text`` is for its owner, ``secret_sha256`` for the database."""

    id: str
    text: str
    secret_sha256: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the key's role, and its publisher unless the operator's."""

    role: Role
    publisher: Publisher | None


def new_key(key_id: str | None = None) -> NewKey:
    """Makes a random key."""
    key_id = key_id or secrets.token_hex(8)
    secret = secrets.token_urlsafe(32)
    return NewKey(key_id, f"{PREFIX}_{key_id}_{secret}", _hash(secret))


class Authenticator:
    """Finds out who calls. The operator's key is in the settings, the others in the database."""

    def __init__(self, store: GalleryStore, operator_key: str) -> None:
        self._store = store
        self._operator_sha256 = _hash(operator_key)

    async def authenticate(
        self, metadata: Iterable[tuple[str, str | bytes]], roles: frozenset[Role]
    ) -> Caller:
        """The caller of a request with this metadata.

        Raises ApiKeyMissing, ApiKeyInvalid, RoleNotAllowed or PublisherSuspended.
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
            return Caller(Role.OPERATE, None)
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        stored = await self._store.find_api_key(key_id) if prefix == PREFIX and secret else None
        if stored is None or not hmac.compare_digest(stored.secret_sha256, _hash(secret)):
            raise ApiKeyInvalid
        if stored.key.revoke_time is not None:
            raise ApiKeyInvalid
        return Caller(stored.key.role, stored.publisher)


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
