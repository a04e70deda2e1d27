"""A database of an installation with many publishers, filled in seconds."""

from collections.abc import Mapping

import numpy as np
import psycopg

from benchmarks.index_data import LINK, Pictures, Vectors
from indexing.bundle import Bundle
from indexing.embedding import Embeddings
from indexing.features import (
    MIN_REFERENCE_KEYPOINTS,
    ReferenceFeatures,
    embedding_bytes,
    geometry_bytes,
)
from indexing.keypoints import Channel

# As indexing.gallery writes them, all at once: a row for each reference, for its one image with its
# features, and for the change that it was. All images have the features of one and the same.
FILL = """
set session_replication_role = replica;
create temp table size as
    select * from unnest(%(publishers)s::text[], %(sizes)s::integer[]) as given (publisher, images);
insert into publisher (id, display_name, false_accept_budget, gallery_version)
    select publisher, publisher, 0.001, images from size;
create temp table item as
    select publisher, number, 'r-' || lpad(number::text, 7, '0') as reference,
        gen_random_uuid() as image
    from size cross join generate_series(0, images - 1) number;
insert into reference (publisher_id, id, link, metadata)
    select publisher, reference, %(link)s || number, '{}' from item;
insert into reference_image (id, publisher_id, reference_id, width, height, sha256)
    select image, publisher, reference, 640, 480, sha256(convert_to(image::text, 'UTF8'))
    from item;
insert into image_features (publisher_id, image_id, model_version, embedding, local_features)
    select publisher, image, %(model)s, %(embedding)s, %(local)s from item;
insert into change (publisher_id, gallery_version, reference_id)
    select publisher, number + 1, reference from item;
drop table item, size;
reset session_replication_role;
"""


def fill(dsn: str, sizes: Mapping[str, int], bundle: Bundle) -> None:
    """Fills a migrated database with publishers of so many references with an image each.

    Every image gets the same features, with few keypoints. The user must be a superuser.
    """
    features = _features(bundle)
    with psycopg.connect(dsn) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute(
            FILL,
            {
                "publishers": list(sizes),
                "sizes": list(sizes.values()),
                "link": LINK,
                "model": bundle.version,
                "embedding": embedding_bytes(features.embedding),
                "local": geometry_bytes(features.local, features.thumbnail),
            },
        )
        connection.commit()
        connection.autocommit = True
        # As autovacuum does in time.
        cursor.execute("vacuum analyze")


def _features(bundle: Bundle) -> ReferenceFeatures:
    pictures = Pictures(bundle, seed=1)
    local = {channel: pictures.local(channel, MIN_REFERENCE_KEYPOINTS) for channel in Channel}
    vector = Vectors(bundle.manifest.dimension, seed=1).draw(1)
    return ReferenceFeatures(
        Embeddings(bundle.version, vector), local, np.zeros((32, 32), np.uint8)
    )
