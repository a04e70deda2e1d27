"""The flow of an explanation: scan, judge each candidate, draw the best few."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass

from indexing.blobs import BlobStore, image_key
from indexing.decision import NoMatch
from indexing.errors import ReferenceNotFound
from indexing.explanation import Judge, Judgement, Verdict
from indexing.explanation_picture import draw_explanation
from indexing.gallery import GalleryStore
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE
from indexing.reference import Publisher, Reference
from server.scanning import Scanning

JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Question:
    """What a publisher asks: about one photo, and one reference or the best ``count``."""

    image: bytes
    reference: str | None
    min_gallery_version: int
    count: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """A judgement with its picture.

    ``photo_keypoints`` counts the photo's local features of the channel that was compared, 0 where
    none was. ``picture`` is a JPEG, or empty where the reference was deleted in the meantime.
    """

    judgement: Judgement
    photo_keypoints: int
    picture: bytes


@dataclass(frozen=True, slots=True)
class Explained:
    """The explanations of a scan; ``size`` is the photo's (width, height) in pixels."""

    explanations: tuple[Explanation, ...]
    no_match: NoMatch | None
    model_version: str
    gallery_version: int
    size: tuple[int, int]


class Explainer:
    """Explains scans, with the reference images of the blob store."""

    def __init__(self, scanning: Scanning, store: GalleryStore, blobs: BlobStore) -> None:
        self._scanning = scanning
        self._store = store
        self._blobs = blobs

    async def explain(self, publisher: Publisher, question: Question) -> Explained:
        """Scans a photo as ever, and says what became of the candidates.

        Raises ReferenceNotFound for the reference asked about, and the errors of a scan.
        """
        asked = (
            await self._store.get_reference(publisher.id, question.reference)
            if question.reference
            else None
        )
        scan = await self._scanning.scan(publisher, question.image, question.min_gallery_version)
        found = scan.recognition
        judge = Judge(scan.calibration, publisher.false_accept_budget)
        judgements = judge.judge(found.candidates, found.matches)
        wanted = judgements[: question.count] if asked is None else [_of(asked, judgements)]
        counts = [found.keypoints[each.channel] if each.channel else 0 for each in wanted]
        pictures = await asyncio.gather(
            *(self._picture(publisher.id, scan.photo.pixels, judgement) for judgement in wanted)
        )
        explanations = tuple(map(Explanation, wanted, counts, pictures))
        return Explained(
            explanations, found.no_match, found.model_version, found.gallery_version, scan.size
        )

    async def _picture(self, publisher: str, photo: Pixels, judgement: Judgement) -> bytes:
        try:
            reference = await self._store.get_reference(publisher, judgement.reference)
            image = await self._blobs.get(image_key(publisher, reference.images[0].id))
        except (ReferenceNotFound, FileNotFoundError):
            # It was deleted since the photo was scanned.
            return b""
        return await asyncio.to_thread(_drawn, photo, image, judgement)


def _of(reference: Reference, judgements: Sequence[Judgement]) -> Judgement:
    for judgement in judgements:
        if judgement.reference == reference.id:
            return judgement
    verdict = Verdict.NOT_A_CANDIDATE if reference.active else Verdict.INACTIVE
    return Judgement(reference.id, verdict)


def _drawn(photo: Pixels, image: bytes, judgement: Judgement) -> bytes:
    reference, _ = decode(image, WORKING_SIDE)
    file = io.BytesIO()
    draw_explanation(photo, reference, judgement).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
