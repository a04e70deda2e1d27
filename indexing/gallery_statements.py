"""The steps of the gallery store inside a transaction: statements, and rows to entities."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Literal
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from indexing.errors import (
    DatabaseUnavailable,
    FeaturesOutdated,
    ImageNotFound,
    LastImage,
    ModelUnavailable,
    PublisherNotFound,
    ReferenceAlreadyExists,
    ReferenceNotFound,
    ReferenceQuotaExceeded,
    RequestIdReused,
    TooManyImages,
)
from indexing.gallery_records import (
    MAX_IMAGES,
    ChangedReference,
    ImageFeatures,
    IndexedImage,
    NewImage,
    NewReference,
    ReferenceFilter,
    Written,
)
from indexing.queries import QUERIES
from indexing.reference import ApiKey, Publisher, Reference, ReferenceImage, Role

Row = tuple[Any, ...]

CONFINE = SQL("set local imagelink.publisher = {}")

LISTEN_RETRY = 1.0
"""Seconds between attempts to listen again after the database was lost."""

FETCH_ROWS = 500
"""Rows per round trip of a large read: about 5 MB of features."""


NOBODY = ""
EVERY_PUBLISHER = "*"
"""Whose rows a transaction sees, beside a publisher's id; neither is one."""


async def confine(connection: AsyncConnection) -> None:
    """Have row security hold for a new connection: a superuser acts as an ordinary user."""
    if await fetch_one(connection, "is_superuser") == (True,):
        await connection.execute(QUERIES["take_confined_role"])
    await connection.commit()


@asynccontextmanager
async def transaction(
    pool: AsyncConnectionPool, whose: str = NOBODY
) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that sees the rows of one publisher, of every one, or of nobody.

    Raises DatabaseUnavailable where the database does not answer.
    """
    try:
        async with pool.connection() as connection:
            # The pool's check of a connection turns it on for a moment; left on, nothing that follows
            # would be in a transaction, and the next line without effect.
            await connection.set_autocommit(False)
            if whose != NOBODY:
                # Not a query: a transaction that is still to become read-only must have had none.
                await connection.execute(CONFINE.format(Literal(whose)))
            yield connection
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable from error


async def fetch_one(connection: AsyncConnection, query: str, **parameters: object) -> Row | None:
    """Run the named query and return its first row, or None."""
    return await (await connection.execute(QUERIES[query], parameters)).fetchone()


async def fetch_all(connection: AsyncConnection, query: str, **parameters: object) -> list[Row]:
    """Run the named query and return all its rows."""
    return await (await connection.execute(QUERIES[query], parameters)).fetchall()


async def fetch_count(connection: AsyncConnection, query: str, **parameters: object) -> int:
    """Run the named query, which counts, and return its number."""
    ((count,),) = await fetch_all(connection, query, **parameters)
    return int(count)


async def lock_publisher(connection: AsyncConnection, publisher: str) -> None:
    """Have this transaction alone write to a publisher's gallery. Raises PublisherNotFound."""
    if await fetch_one(connection, "lock_publisher", id=publisher) is None:
        raise PublisherNotFound(publisher=publisher)


def to_publisher(row: Row | None, publisher: str) -> Publisher:
    """Return a row as the publisher it is. Raises PublisherNotFound for None."""
    if row is None:
        raise PublisherNotFound(publisher=publisher)
    return Publisher(*row)


def to_api_key(row: Row) -> ApiKey:
    """Return a row as an API key."""
    key_id, publisher, role, *rest = row
    return ApiKey(key_id, publisher, Role(role), *rest)


def to_reference(row: Row) -> Reference:
    """Return a row, its images as JSON in the last column, as a reference."""
    publisher, name, link, metadata, active, created, updated, stored = row
    images = tuple(_to_image(image) for image in stored or ())
    return Reference(publisher, name, link, metadata, active, created, updated, images)


def _to_image(values: list[Any]) -> ReferenceImage:
    image_id, width, height, sha256 = values
    return ReferenceImage(image_id, width, height, bytes.fromhex(sha256))


def filter_parameters(conditions: ReferenceFilter) -> dict[str, object]:
    """The parameters that ``list_references`` has of a filter."""
    return {
        "active": list(conditions.active),
        "ids": list(conditions.ids),
        "id_prefixes": list(conditions.id_prefixes),
        "metadata": [Jsonb({key: value}) for key, value in conditions.metadata],
        "metadata_keys": list(conditions.metadata_keys),
    }


async def get_reference(connection: AsyncConnection, publisher: str, reference: str) -> Reference:
    """Return a reference with its images. Raises ReferenceNotFound."""
    row = await fetch_one(connection, "get_reference", publisher=publisher, reference=reference)
    if row is None:
        raise ReferenceNotFound(publisher=publisher, reference=reference)
    return to_reference(row)


async def find_request(
    connection: AsyncConnection, publisher: str, request_id: str, fingerprint: bytes
) -> Written | None:
    """Return what the registration with this request id did, or None if there was none.

    Raises RequestIdReused and ReferenceNotFound.
    """
    row = await fetch_one(
        connection, "find_register_request", publisher=publisher, request_id=request_id
    )
    if row is None:
        return None
    stored_fingerprint, reference, version = row
    if stored_fingerprint != fingerprint:
        raise RequestIdReused(request_id=request_id)
    return Written(await get_reference(connection, publisher, reference), version)


async def register(
    connection: AsyncConnection, new: NewReference, versions: Collection[str]
) -> Written:
    """Register a reference with its image, or answer a replay as ``find_request`` does.

    Its features are kept as ``needed`` says. The caller holds the publisher's row lock. Raises
    the errors of ``find_request``, ReferenceAlreadyExists, ReferenceQuotaExceeded and
    FeaturesOutdated, after which the transaction can go on.
    """
    if new.request_id:
        replayed = await find_request(connection, new.publisher, new.request_id, new.fingerprint)
        if replayed:
            return replayed
    await check_reference_quota(connection, new.publisher, new.reference_id)
    await _insert_reference(connection, replace(new, features=needed(new.features, versions)))
    version = await append_change(connection, new.publisher, new.reference_id)
    if new.request_id:
        await _insert_request(connection, new, version)
    return Written(await get_reference(connection, new.publisher, new.reference_id), version)


async def check_reference_quota(
    connection: AsyncConnection, publisher: str, reference: str
) -> None:
    """Raise ReferenceQuotaExceeded where a reference is new and there is no room for it.

    Under the publisher's row lock that stays so until the transaction's end.
    """
    row = await fetch_one(
        connection, "exceeded_reference_quota", publisher=publisher, reference=reference
    )
    if row is not None:
        raise ReferenceQuotaExceeded(publisher=publisher, limit=row[0])


async def _insert_reference(connection: AsyncConnection, new: NewReference) -> None:
    row = await fetch_one(
        connection,
        "insert_reference",
        link=new.link,
        metadata=Jsonb(dict(new.metadata)),
        **image_parameters(new),
    )
    if row is None:
        raise ReferenceAlreadyExists(publisher=new.publisher, reference=new.reference_id)


def image_parameters(new: NewReference | NewImage) -> dict[str, object]:
    """The parameters of the statements that insert an image with its features."""
    return {
        "publisher": new.publisher,
        "reference": new.reference_id,
        "image_id": new.image.id,
        "width": new.image.width,
        "height": new.image.height,
        "sha256": new.image.sha256,
        **features_parameters(new.features),
    }


def features_parameters(features: Sequence[ImageFeatures]) -> dict[str, object]:
    """The parameters of the statements that insert an image's features."""
    return {
        "model_versions": [each.model_version for each in features],
        "embeddings": [each.embedding for each in features],
        "local_features": [each.local_features for each in features],
    }


async def written_models(connection: AsyncConnection) -> frozenset[str]:
    """Return the versions that images need features of, until the transaction's end."""
    await connection.execute(QUERIES["share_model_lock"])
    return frozenset(version for (version,) in await fetch_all(connection, "written_models"))


def needed(
    features: Sequence[ImageFeatures], versions: Collection[str]
) -> tuple[ImageFeatures, ...]:
    """Return those of an image's features that are of ``versions``; all where there are none.

    Raises FeaturesOutdated where some are lacking.
    """
    if missing := {*versions} - {each.model_version for each in features}:
        raise FeaturesOutdated(versions=", ".join(sorted(missing)))
    return tuple(each for each in features if not versions or each.model_version in versions)


async def add_image(connection: AsyncConnection, new: NewImage) -> Written:
    """Add an image to a reference.

    The caller holds the publisher's row lock. Raises ReferenceNotFound, TooManyImages and
    FeaturesOutdated.
    """
    reference = await get_reference(connection, new.publisher, new.reference_id)
    if len(reference.images) >= MAX_IMAGES:
        raise TooManyImages(reference=reference.id, limit=MAX_IMAGES)
    made = needed(new.features, await written_models(connection))
    whole = replace(new, features=made)
    await connection.execute(QUERIES["insert_image"], image_parameters(whole))
    return await _changed(connection, reference)


async def remove_image(
    connection: AsyncConnection, publisher: str, reference: str, image: str
) -> Written:
    """Remove an image of a reference, with its features.

    The caller holds the publisher's row lock. Raises ReferenceNotFound, ImageNotFound and
    LastImage.
    """
    found = await get_reference(connection, publisher, reference)
    if all(each.id != image for each in found.images):
        raise ImageNotFound(reference=reference, image=image)
    if len(found.images) == 1:
        raise LastImage(reference=reference)
    await connection.execute(
        QUERIES["delete_image"],
        {"publisher": publisher, "reference": reference, "image_id": image},
    )
    return await _changed(connection, found)


async def _changed(connection: AsyncConnection, before: Reference) -> Written:
    version = await append_change(connection, before.publisher, before.id)
    return Written(await get_reference(connection, before.publisher, before.id), version)


async def _insert_request(connection: AsyncConnection, new: NewReference, version: int) -> None:
    await connection.execute(
        QUERIES["insert_register_request"],
        {
            "publisher": new.publisher,
            "request_id": new.request_id,
            "fingerprint": new.fingerprint,
            "reference": new.reference_id,
            "gallery_version": version,
        },
    )


async def append_change(connection: AsyncConnection, publisher: str, reference: str) -> int:
    """Give the gallery its next version, which wrote ``reference``, and return it.

    The caller holds the publisher's row lock.
    """
    row = await fetch_one(connection, "append_change", publisher=publisher, reference=reference)
    if row is None:
        raise PublisherNotFound(publisher=publisher)
    return int(row[0])


async def read_gallery(
    connection: AsyncConnection, query: str, parameters: Mapping[str, object]
) -> tuple[list[ChangedReference], list[str]]:
    """Return the references that the named query tells of: those that are, and the ids gone.

    A cursor on the server, because a large gallery's rows would otherwise be in memory
    twice; binary, because features as text are twice as long. Raises ModelUnavailable where an
    image has no features of the model version: without it, the index would be of no version of
    the gallery.
    """
    rows = await _read_all(connection, query, parameters)
    try:
        return _split(rows)
    except _Lacking:
        raise ModelUnavailable(model=parameters["model_version"]) from None


def _split(rows: list[Row]) -> tuple[list[ChangedReference], list[str]]:
    changed: list[ChangedReference] = []
    removed: list[str] = []
    for reference, group in groupby(rows, key=itemgetter(0)):
        images = list(group)
        active = images[0][1]
        if active is None:
            removed.append(reference)
        else:
            changed.append(_to_changed(images))
    return changed, removed


def _to_changed(rows: list[Row]) -> ChangedReference:
    reference, active, link, metadata = rows[0][:4]
    images = tuple(IndexedImage(*row[4:]) for row in rows if _is_usable(row))
    return ChangedReference(reference, active, link, metadata, images)


def _is_usable(row: Row) -> bool:
    """Whether an image has features. Raises _Lacking where the model version has not made any."""
    *_, image, embedding, _ = row
    if image is not None and embedding is None:
        raise _Lacking
    return bool(embedding)


class _Lacking(Exception):
    pass


async def _read_all(
    connection: AsyncConnection, query: str, parameters: Mapping[str, object]
) -> list[Row]:
    rows: list[Row] = []
    async with connection.cursor(name="gallery", binary=True) as cursor:
        await cursor.execute(QUERIES[query], parameters)
        while batch := await cursor.fetchmany(FETCH_ROWS):
            rows += batch
    return rows


async def notifications(pool: AsyncConnectionPool, query: str) -> AsyncGenerator[str | None, None]:
    """Yield the payload of each notification that the named query listens for, without end.

    Yields None once it listens, and again after the database was lost and came back. Keeps a
    connection to itself; close it with ``aclose`` to give that back.
    """
    while True:
        try:
            async with (
                pool.connection() as connection,
                aclosing(_heard(connection, query)) as heard,
            ):
                async for payload in heard:
                    yield payload
        except psycopg.OperationalError:
            await asyncio.sleep(LISTEN_RETRY)


async def _heard(connection: AsyncConnection, query: str) -> AsyncGenerator[str | None, None]:
    # Closed at the end: given back to a pool it would go on listening.
    try:
        await connection.set_autocommit(True)
        await connection.execute(QUERIES[query])
        yield None
        async with aclosing(connection.notifies()) as notifies:
            async for notification in notifies:
                yield notification.payload
    finally:
        await connection.close()
