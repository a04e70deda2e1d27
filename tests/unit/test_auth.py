"""What is remembered of API keys, while the database answers and while it does not."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from indexing.errors import ApiKeyExpired, ApiKeyInvalid, DatabaseUnavailable
from indexing.gallery_records import StoredKey
from indexing.reference import ApiKey, Publisher, Role
from server import auth
from server.auth import SCAN, Authenticator, KeyCache, NewKey, new_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACME = Publisher("acme", "", False, 0.001, 0, NOW)
KEY = StoredKey(ApiKey("k", "acme", Role.SCAN, "", NOW), b"sha", ACME)
REVOKED = replace(KEY, key=replace(KEY.key, revoke_time=NOW))
SUSPENDED = replace(KEY, publisher=replace(ACME, suspended=True))


class Database:
    """Answers look-ups with ``stored``, fails while ``away``, and never answers where it hangs."""

    def __init__(self) -> None:
        self.stored: StoredKey | None = KEY
        self.away = False
        self.hangs = False
        self.lookups = 0
        self.asked = asyncio.Event()
        self.answered = asyncio.Event()
        self.now = 1000.0
        self.cache = KeyCache(self.look_up, lambda: self.now)

    async def look_up(self, key_id: str) -> StoredKey | None:
        self.lookups += 1
        self.asked.set()
        stored = self.stored
        if self.hangs:
            await self.answered.wait()
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseUnavailable
        return stored

    def after(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def database() -> Database:
    return Database()


async def test_a_key_is_looked_up_once_in_five_seconds(database: Database) -> None:
    for _ in range(3):
        assert await database.cache.find("k") == KEY
        database.after(1)
    assert database.lookups == 1
    database.after(auth.FRESH_SECONDS)
    assert await database.cache.find("k") == KEY
    assert database.lookups == 2


async def test_callers_at_the_same_moment_share_a_look_up(database: Database) -> None:
    found = await asyncio.gather(*(database.cache.find("k") for _ in range(20)))
    assert found == [KEY] * 20
    assert database.lookups == 1


@pytest.mark.parametrize("ended", [REVOKED, SUSPENDED, None])
async def test_revocation_takes_effect_within_five_seconds(
    database: Database, ended: StoredKey | None
) -> None:
    await database.cache.find("k")
    database.stored = ended
    database.after(auth.FRESH_SECONDS)
    assert await database.cache.find("k") == ended
    # It is not known any more, so that an outage does not bring it back.
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await database.cache.find("k")


@pytest.mark.parametrize("closed", [REVOKED, SUSPENDED, None])
async def test_a_key_that_opens_nothing_is_not_remembered(
    database: Database, closed: StoredKey | None
) -> None:
    database.stored = closed
    assert await database.cache.find("k") == closed
    database.stored = KEY
    assert await database.cache.find("k") == KEY


async def test_forgotten_keys_open_nothing_before_they_are_looked_up(database: Database) -> None:
    await database.cache.find("k")
    database.after(1)
    database.cache.forget("acme")
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await database.cache.find("k")
    database.away, database.stored = False, REVOKED
    assert await database.cache.find("k") == REVOKED


async def test_the_keys_of_other_publishers_are_not_forgotten(database: Database) -> None:
    await database.cache.find("k")
    database.after(1)
    database.cache.forget("other")
    database.away = True
    assert await database.cache.find("k") == KEY


async def test_an_answer_from_before_the_revocation_is_not_kept(database: Database) -> None:
    early = asyncio.ensure_future(database.cache.find("k"))
    await database.asked.wait()
    database.stored = REVOKED
    database.cache.forget("acme")
    assert await early == KEY
    database.after(1)
    assert await database.cache.find("k") == REVOKED


async def test_a_known_key_outlives_an_outage_of_a_day(database: Database) -> None:
    await database.cache.find("k")
    database.away = True
    database.after(auth.STALE_SECONDS)
    assert await database.cache.find("k") == KEY
    database.after(1)
    with pytest.raises(DatabaseUnavailable):
        await database.cache.find("k")


async def test_an_unknown_key_needs_the_database(database: Database) -> None:
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await database.cache.find("k")
    database.away = False
    assert await database.cache.find("k") == KEY


async def test_an_outage_costs_a_look_up_in_five_seconds(database: Database) -> None:
    await database.cache.find("k")
    database.away = True
    database.after(auth.FRESH_SECONDS)
    for _ in range(10):
        assert await database.cache.find("k") == KEY
    assert database.lookups == 2


async def test_revocation_takes_effect_within_five_seconds_of_an_outage(
    database: Database,
) -> None:
    await database.cache.find("k")
    database.away = True
    database.after(auth.FRESH_SECONDS)
    await database.cache.find("k")
    database.away, database.stored = False, REVOKED
    database.after(auth.FRESH_SECONDS)
    assert await database.cache.find("k") == REVOKED


async def test_a_database_that_hangs_does_not_hold_up_known_keys(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "PATIENCE_SECONDS", 0.01)
    await database.cache.find("k")
    database.hangs = True
    for _ in range(3):
        database.after(auth.FRESH_SECONDS)
        assert await asyncio.wait_for(database.cache.find("k"), 1) == KEY
    # The same look-up all the time.
    assert database.lookups == 2


async def test_a_slow_answer_counts_when_it_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "PATIENCE_SECONDS", 0.01)
    await database.cache.find("k")
    database.hangs, database.stored = True, REVOKED
    database.after(auth.FRESH_SECONDS)
    assert await database.cache.find("k") == KEY
    database.answered.set()
    await asyncio.sleep(0.01)
    assert await database.cache.find("k") == REVOKED


async def test_the_memory_for_keys_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "MAX_KEYS", 2)
    cache = KeyCache(database.look_up, lambda: database.now)
    for key in ("a", "b", "c"):
        await cache.find(key)
    await cache.find("c")
    assert database.lookups == 3
    await cache.find("a")
    assert database.lookups == 4


class Store:
    """Knows one key, as the gallery store does."""

    def __init__(self, made: NewKey, expire_time: datetime | None) -> None:
        self.away = False
        self._id = made.id
        key = ApiKey(made.id, "acme", Role.SCAN, "", NOW, expire_time=expire_time)
        self._stored = StoredKey(key, made.secret_sha256, ACME)

    async def find_api_key(self, key_id: str) -> StoredKey | None:
        if self.away:
            raise DatabaseUnavailable
        return self._stored if key_id == self._id else None


async def test_a_key_opens_until_it_expires_and_nothing_after_also_in_an_outage() -> None:
    made, expiry = new_key("k"), NOW + timedelta(days=1)
    store, now = Store(made, expiry), NOW
    authenticator = Authenticator(store, "il_operator_x", lambda: now)  # type: ignore[arg-type]
    metadata = [("authorization", f"Bearer {made.text}")]
    now = expiry - timedelta(seconds=1)
    assert (await authenticator.authenticate(metadata, SCAN)).key_id == "k"
    store.away = True  # From here on the key is known from memory alone.
    now = expiry
    with pytest.raises(ApiKeyExpired, match="'k' expired at 2026-01-02 00:00:00"):
        await authenticator.authenticate(metadata, SCAN)
    wrong = [("authorization", f"Bearer {made.text}x")]
    with pytest.raises(ApiKeyInvalid):  # Who does not have the key is not told that it expired.
        await authenticator.authenticate(wrong, SCAN)


async def test_a_key_without_an_end_does_not_expire() -> None:
    made = new_key("k")
    store, later = Store(made, None), NOW + timedelta(days=36_500)
    authenticator = Authenticator(store, "il_operator_x", lambda: later)  # type: ignore[arg-type]
    metadata = [("authorization", f"Bearer {made.text}")]
    assert (await authenticator.authenticate(metadata, SCAN)).key_id == "k"
