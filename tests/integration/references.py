"""References to register in tests."""

import hashlib
from dataclasses import replace
from uuid import uuid4

from indexing.gallery_records import ImageFeatures, NewReference
from indexing.reference import ReferenceImage

MODEL = "model-1"


def a_reference(reference_id: str, publisher: str = "acme", **changes: object) -> NewReference:
    image = ReferenceImage(str(uuid4()), 640, 480, hashlib.sha256(reference_id.encode()).digest())
    new = NewReference(
        publisher=publisher,
        reference_id=reference_id,
        link=f"https://example.com/{reference_id}",
        metadata={"title": reference_id},
        image=image,
        features=(ImageFeatures(MODEL, b"\x00\x3c" * 8, b"\x00local\xff" + reference_id.encode()),),
        request_id=None,
        fingerprint=b"fingerprint",
    )
    return replace(new, **changes)  # type: ignore[arg-type]
