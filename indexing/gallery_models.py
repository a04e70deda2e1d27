"""Model versions and their rollouts in PostgreSQL.

Every change of what serves whom counts one epoch up and is notified with its commit. Every method
raises DatabaseUnavailable where the database does not answer.
"""

import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import TypeAdapter

from indexing.bundle import Manifest
from indexing.errors import (
    GateFailed,
    ModelInUse,
    ModelNotFound,
    PublisherNotFound,
    RolloutNotFound,
    RolloutUnderWay,
)
from indexing.gallery_statements import (
    Row,
    fetch_all,
    fetch_count,
    fetch_one,
    notifications,
    transaction,
)
from indexing.gate import GateReport
from indexing.queries import QUERIES
from indexing.rollout import (
    SWITCHABLE,
    SWITCHED,
    UNDER_WAY,
    Rollout,
    RolloutState,
    Serving,
    canary,
)

SCANNER_LEASE = timedelta(seconds=10)
"""A scanner that was silent for longer is not waited for."""
FORGET_AGE = timedelta(hours=2)

_GATE = TypeAdapter(GateReport)


class ModelState(StrEnum):
    """What a model version is doing."""

    UPLOADED = "uploaded"
    BACKFILLING = "backfilling"
    READY = "ready"
    ACTIVE = "active"
    RETIRED = "retired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A registered model version; ``size`` is the bytes of its bundle."""

    version: str
    manifest: Manifest
    size: int
    create_time: datetime
    state: ModelState


class ModelStore:
    """Which model versions there are, which serves whom, and the rollout under way."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    # Model versions

    async def register(self, version: str, manifest: Manifest, size: int) -> StoredModel:
        """Keep a model version, or leave it as it is kept, and return it."""
        parameters = {
            "version": version,
            "manifest": Jsonb(manifest.model_dump(mode="json")),
            "size_bytes": size,
        }
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["insert_model"], parameters)
            return await _model(connection, version)

    async def model(self, version: str) -> StoredModel:
        """Return a model version. Raises ModelNotFound."""
        async with transaction(self._pool) as connection:
            return await _model(connection, version)

    async def models(self) -> list[StoredModel]:
        """Return all model versions, the newest first."""
        async with transaction(self._pool) as connection:
            rows = await fetch_all(connection, "models", version=None)
        return [_to_model(row) for row in rows]

    async def delete_model(self, version: str) -> None:
        """Delete a model version that nothing uses; its features must have gone before.

        Raises ModelNotFound and ModelInUse.
        """
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["take_model_lock"])
            await _check_unused(connection, version)
            await connection.execute(QUERIES["delete_model"], {"version": version})

    async def check_unused(self, version: str) -> None:
        """Raises ModelNotFound, and ModelInUse where a model version may not be deleted."""
        async with transaction(self._pool) as connection:
            await _check_unused(connection, version)

    # Who is served by what

    async def has_serving(self) -> bool:
        """Return whether any version serves."""
        async with transaction(self._pool) as connection:
            return await fetch_one(connection, "serving_epoch") is not None

    async def begin_serving(self, version: str) -> Serving:
        """Have a registered version serve where none does, and return what serves whom."""
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["begin_serving"], {"version": version})
            await _set_has_features(connection, version, True)
            return await _serving(connection)

    async def serving(self) -> Serving:
        """Return what serves whom."""
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["begin_snapshot"])
            return await _serving(connection)

    async def epoch(self) -> int:
        """Return the number that counts the changes of what serves whom."""
        async with transaction(self._pool) as connection:
            return await fetch_count(connection, "serving_epoch")

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever what serves whom may have changed, without end, and once it listens.

        Never raises DatabaseUnavailable. Keeps a connection to itself; close it with
        ``aclose`` to give that back.
        """
        async with aclosing(notifications(self._pool, "listen_models")) as told:
            async for _ in told:
                yield

    async def see_scanner(self, scanner: str, models: Collection[str]) -> None:
        """Say that a scanner lives, and which versions it has loaded."""
        async with transaction(self._pool) as connection:
            await connection.execute(
                QUERIES["see_scanner"], {"id": scanner, "models": sorted(models)}
            )
            await connection.execute(QUERIES["forget_scanners"], {"age": FORGET_AGE})

    async def count_publishers(self) -> int:
        """Return how many publishers there are."""
        async with transaction(self._pool) as connection:
            return await fetch_count(connection, "count_publishers")

    # Rollouts

    async def start(self, model: str, max_images_per_second: float, shadow_share: float) -> Rollout:
        """Begin a rollout. From now on what is written needs features of the new version.

        Raises ModelNotFound, RolloutUnderWay, and ModelInUse where it serves already.
        """
        # In the order of their beginnings.
        rollout_id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        async with self._changing() as connection:
            await connection.execute(QUERIES["take_model_lock"])
            found = await _model(connection, model)
            under_way = (await _serving(connection)).rollout
            if under_way is not None:
                raise RolloutUnderWay(rollout=under_way.id, model=under_way.model)
            if found.state is ModelState.ACTIVE:
                raise ModelInUse(model=model, problem="it serves all publishers already.")
            parameters = {
                "id": rollout_id,
                "model": model,
                "max_images_per_second": max_images_per_second,
                "shadow_share": shadow_share,
            }
            await connection.execute(QUERIES["insert_rollout"], parameters)
            await _set_has_features(connection, model, True)
            return await _rollout(connection, rollout_id)

    async def rollout(self, rollout: str) -> Rollout:
        """Return a rollout. Raises RolloutNotFound."""
        async with transaction(self._pool) as connection:
            return await _rollout(connection, rollout)

    async def rollouts(self) -> list[Rollout]:
        """Return all rollouts, the latest first."""
        async with transaction(self._pool) as connection:
            rows = await fetch_all(connection, "rollouts", id=None, under_way=False)
        return [_to_rollout(row) for row in rows]

    async def update(
        self,
        rollout: str,
        *,
        paused: bool | None = None,
        max_images_per_second: float | None = None,
        shadow_share: float | None = None,
    ) -> Rollout:
        """Change what is not None. Raises RolloutNotFound and RolloutStateInvalid."""
        async with self._changing() as connection:
            found = await _locked(connection, rollout)
            found.check(UNDER_WAY, "it has ended, and cannot be changed.")
            parameters = {
                "id": rollout,
                "paused": paused,
                "max_images_per_second": max_images_per_second,
                "shadow_share": shadow_share,
            }
            await connection.execute(QUERIES["update_rollout"], parameters)
            return await _rollout(connection, rollout)

    async def evaluate(self, rollout: str) -> None:
        """Go on from the backfill. Raises RolloutStateInvalid in another state."""
        async with self._changing() as connection:
            found = await _locked(connection, rollout)
            found.check({RolloutState.BACKFILLING}, "its backfill is over.")
            await _set_state(connection, rollout, RolloutState.EVALUATING)

    async def be_ready(self, rollout: str, report: GateReport) -> None:
        """Keep the comparison of both versions, and have publishers be switched."""
        gate = Jsonb(json.loads(_GATE.dump_json(report)))
        async with self._changing() as connection:
            found = await _locked(connection, rollout)
            found.check({RolloutState.EVALUATING}, "its evaluation is over.")
            await connection.execute(QUERIES["set_rollout_gate"], {"id": rollout, "gate": gate})
            await _set_state(connection, rollout, RolloutState.READY)

    async def fail(self, rollout: str, problem: str) -> None:
        """End a rollout whose version cannot be used, unless it has switched publishers."""
        async with self._changing() as connection:
            found = await _locked(connection, rollout)
            if found.state in UNDER_WAY - SWITCHED:
                await _set_state(connection, rollout, RolloutState.FAILED, problem)

    async def gate(self, rollout: str) -> tuple[GateReport, datetime]:
        """Return the comparison of both versions, and when it was made.

        Raises RolloutNotFound, and RolloutStateInvalid where it was not made yet.
        """
        async with transaction(self._pool) as connection:
            found = await _rollout(connection, rollout)
            row = await fetch_one(connection, "rollout_gate", id=rollout)
        if row is None or row[0] is None:
            raise found.refusal("its versions were not compared yet.")
        return _GATE.validate_python(row[0]), row[1]

    async def activate(
        self, rollout: str, publishers: Sequence[str], percent: float, force: bool
    ) -> Rollout:
        """Switch some publishers, a share of them, or without either all, in one transaction.

        Raises RolloutNotFound, RolloutStateInvalid, GateFailed and PublisherNotFound.
        """
        async with self._changing() as connection:
            found = await _locked(connection, rollout)
            found.check(SWITCHABLE, "wait until it is ready.")
            if not found.gate_passed and not force:
                row = await fetch_one(connection, "rollout_gate", id=rollout)
                raise GateFailed(problems=" ".join(row[0]["problems"]) if row else "")
            await _check_scanners(connection, found)
            everybody = not publishers and not percent
            if everybody:
                await _serve_all(connection, found.model)
            else:
                await _serve_some(connection, found.model, publishers, percent)
            state = RolloutState.ACTIVE if everybody else RolloutState.CANARY
            await _set_state(connection, rollout, max(state, found.state, key=_extent))
            await _note_switch(connection, rollout, forced=not found.gate_passed)
            return await _rollout(connection, rollout)

    async def roll_back(self, rollout: str, problem: str) -> Rollout:
        """Switch all publishers back, and keep why. Raises RolloutNotFound, RolloutStateInvalid."""
        async with self._changing() as connection:
            found = await _locked(connection, rollout)
            if found.state is RolloutState.COMPLETED:
                raise found.refusal("the features of the former version are gone.")
            found.check(SWITCHED, "no publisher is switched.")
            await _serve_all(connection, found.former)
            await _set_state(connection, rollout, RolloutState.READY, problem)
            await _note_switch(connection, rollout, forced=False)
            return await _rollout(connection, rollout)

    async def end(self, rollout: str) -> Rollout:
        """Complete or cancel a rollout, by whether it switched all publishers or none.

        Raises RolloutNotFound and RolloutStateInvalid.
        """
        async with self._changing() as connection:
            found = await _locked(connection, rollout)
            found.check(UNDER_WAY, "it has ended already.")
            if found.state is RolloutState.CANARY:
                raise found.refusal(
                    "some publishers are switched: activate the rest, or roll back."
                )
            completed = found.state is RolloutState.ACTIVE
            state = RolloutState.COMPLETED if completed else RolloutState.CANCELLED
            await _set_state(connection, rollout, state)
            return await _rollout(connection, rollout)

    @asynccontextmanager
    async def driving(self) -> AsyncIterator[bool]:
        """Give whether this is the only process that now drives the rollout, for as long as it lasts."""
        async with transaction(self._pool) as connection:
            yield await fetch_one(connection, "try_lock_rollout") == (True,)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        async with transaction(self._pool) as connection:
            await connection.execute(QUERIES["next_epoch"])
            yield connection
            await connection.execute(QUERIES["notify_models"])


async def _model(connection: AsyncConnection, version: str) -> StoredModel:
    row = await fetch_one(connection, "models", version=version)
    if row is None:
        raise ModelNotFound(model=version)
    return _to_model(row)


def _to_model(row: Row) -> StoredModel:
    version, manifest, size, create_time, state = row
    return StoredModel(
        version, Manifest.model_validate(manifest), size, create_time, ModelState(state)
    )


async def _check_unused(connection: AsyncConnection, version: str) -> None:
    found = await _model(connection, version)
    if found.state is ModelState.ACTIVE:
        raise ModelInUse(model=version, problem="it serves publishers.")
    if found.state in (ModelState.BACKFILLING, ModelState.READY):
        raise ModelInUse(model=version, problem="a rollout uses it: end that first.")


async def _serving(connection: AsyncConnection) -> Serving:
    row = await fetch_one(connection, "serving")
    assert row is not None, "a server that starts has one version serve"
    epoch, default = row
    publishers: dict[str, str] = dict(await fetch_all(connection, "publisher_models"))
    found = await fetch_all(connection, "rollouts", id=None, under_way=True)
    return Serving(epoch, default, publishers, _to_rollout(found[0]) if found else None)


async def _rollout(connection: AsyncConnection, rollout: str) -> Rollout:
    row = await fetch_one(connection, "rollouts", id=rollout, under_way=False)
    if row is None:
        raise RolloutNotFound(rollout=rollout)
    return _to_rollout(row)


async def _locked(connection: AsyncConnection, rollout: str) -> Rollout:
    await connection.execute(QUERIES["lock_rollout"], {"id": rollout})
    return await _rollout(connection, rollout)


def _to_rollout(row: Row) -> Rollout:
    rollout, model, former, state, *rest = row
    return Rollout(rollout, model, former, RolloutState(state), *rest)


async def _set_state(
    connection: AsyncConnection, rollout: str, state: RolloutState, problem: str = ""
) -> None:
    parameters = {"id": rollout, "state": state.value, "problem": problem}
    await connection.execute(QUERIES["set_rollout_state"], parameters)


async def _note_switch(connection: AsyncConnection, rollout: str, *, forced: bool) -> None:
    await connection.execute(QUERIES["set_rollout_switched"], {"id": rollout, "forced": forced})


async def _set_has_features(connection: AsyncConnection, version: str, has: bool) -> None:
    parameters = {"version": version, "has_features": has}
    await connection.execute(QUERIES["set_has_features"], parameters)


async def _check_scanners(connection: AsyncConnection, rollout: Rollout) -> None:
    lagging = await fetch_all(
        connection, "lagging_scanners", lease=SCANNER_LEASE, version=rollout.model
    )
    if lagging:
        problem = f"{len(lagging)} scanners have not loaded the new version yet: try again soon."
        raise rollout.refusal(problem)


async def _serve_all(connection: AsyncConnection, version: str) -> None:
    await connection.execute(QUERIES["set_default_model"], {"version": version})
    await connection.execute(QUERIES["clear_publisher_models"])


async def _serve_some(
    connection: AsyncConnection, version: str, publishers: Sequence[str], percent: float
) -> None:
    existing = [name for (name,) in await fetch_all(connection, "publisher_ids")]
    for name in publishers:
        if name not in existing:
            raise PublisherNotFound(publisher=name)
    switched = [*publishers, *canary(existing, percent)]
    parameters = {"version": version, "publishers": switched}
    await connection.execute(QUERIES["set_publisher_models"], parameters)


def _extent(state: RolloutState) -> int:
    return (RolloutState.READY, RolloutState.CANARY, RolloutState.ACTIVE).index(state)
