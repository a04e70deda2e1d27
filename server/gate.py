"""Compares two model versions on views of what publishers have registered, and on kept scans."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from indexing.blobs import BlobStore, image_key
from indexing.decision import Match, accepted
from indexing.errors import ImageLinkError, PublisherNotFound
from indexing.gallery import GalleryStore
from indexing.gallery_backfill import BackfillStore, StoredImage
from indexing.gallery_scans import KeptScan, KeptScanStore
from indexing.gate import Answer, GateReport, Rescan, Trial, compare
from indexing.image import Pixels, decode
from indexing.recognition import WORKING_SIDE, Photo, Recognition
from indexing.reference import Publisher
from indexing.viewing import SETTINGS, VIEWS_PER_SETTING, Viewing
from server.models import Model
from server.registration import decode_reference
from server.scanning import ShardedRecogniser, ShardSearch

SAMPLED_IMAGES = 60
VIEWS_PER_IMAGE = 2
SAMPLED_SCANS = 60


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A photo, as one version recognised it."""

    recognition: Recognition
    seconds: float


class Gate:
    """Has two versions answer the same photos, each in its own generation of the live galleries."""

    def __init__(
        self,
        store: GalleryStore,
        images: BackfillStore,
        scans: KeptScanStore,
        blobs: BlobStore,
        search: ShardSearch,
    ) -> None:
        self._store = store
        self._images = images
        self._scans = scans
        self._blobs = blobs
        self._search = search

    async def compare(self, former: Model, new: Model, unusable_images: int) -> GateReport:
        """Compares the versions on a sample of the images, and one of the kept scans.

        Raises DatabaseUnavailable and the errors of a search, after which it can be done again.
        """
        sample = await self._images.sample(SAMPLED_IMAGES)
        trials = [
            trial
            for number, image in enumerate(sample)
            async for trial in self._trials(image, number, former, new)
        ]
        rescans = [
            await self._rescan(s, former, new) for s in await self._scans.sample(SAMPLED_SCANS)
        ]
        return compare(trials, list(filter(None, rescans)), unusable_images)

    async def _trials(
        self, image: StoredImage, number: int, former: Model, new: Model
    ) -> AsyncIterator[Trial]:
        try:
            publisher = await self._store.get_publisher(image.publisher)
            data = await self._blobs.get(image_key(image.publisher, image.id))
            picture, _ = await asyncio.to_thread(decode_reference, data)
        except (PublisherNotFound, FileNotFoundError):
            # It was deleted since.
            return
        for view in range(VIEWS_PER_IMAGE):
            viewing = _viewing(image, number * VIEWS_PER_IMAGE + view)
            photo = _photo((await asyncio.to_thread(viewing.render, picture)).photo, publisher)
            seen = [await self._seen(each, photo) for each in (former, new)]
            for shown in (image.reference, None):
                answers = [
                    _answer(model, publisher, sighting, image.reference, shown)
                    for model, sighting in zip((former, new), seen, strict=True)
                ]
                yield Trial(publisher.id, shown, str(viewing.setting.condition), *answers)

    async def _rescan(self, scan: KeptScan, former: Model, new: Model) -> Rescan | None:
        try:
            publisher = await self._store.get_publisher(scan.publisher)
            pixels, _ = await asyncio.to_thread(
                decode, await self._blobs.get(scan.key), WORKING_SIDE
            )
        except (PublisherNotFound, FileNotFoundError):
            # It was removed since.
            return None
        photo = _photo(pixels, publisher)
        seen = [await self._seen(model, photo) for model in (former, new)]
        return Rescan(publisher.id, *(_references(each.recognition) for each in seen))

    async def _seen(self, model: Model, photo: Photo) -> _Sighting:
        # What the former version found is not found again, and yet is a part of the new one's time.
        start = time.perf_counter() + photo.look.spared_seconds
        (found,) = await ShardedRecogniser(model.recogniser, self._search).recognise([photo])
        if isinstance(found, ImageLinkError):
            raise found
        return _Sighting(found, time.perf_counter() + photo.look.spared_seconds - start)


def _photo(pixels: Pixels, publisher: Publisher) -> Photo:
    return Photo(publisher.id, pixels, publisher.false_accept_budget)


def _viewing(image: StoredImage, number: int) -> Viewing:
    """The views take turns among all settings."""
    setting = SETTINGS[number % len(SETTINGS)]
    turn = number // len(SETTINGS) % VIEWS_PER_SETTING
    return Viewing(setting, turn, int.from_bytes(image.sha256[:8], "big"))


def _references(recognition: Recognition) -> frozenset[str]:
    return frozenset(match.candidate.reference for match in recognition.matches)


def _answer(
    model: Model, publisher: Publisher, seen: _Sighting, reference: str, shown: str | None
) -> Answer:
    """What a version answers; a view shows nobody where its own reference is taken out."""
    matches: Sequence[Match] = seen.recognition.matches
    if shown is None:
        others = [each for each in seen.recognition.candidates if each.reference != reference]
        matches = accepted(others, model.bundle.calibration, publisher.false_accept_budget)
    if not matches:
        return Answer(None, 0.0, False, seen.seconds)
    best = matches[0]
    name = best.candidate.reference
    return Answer(name, best.probability, name == shown, seen.seconds)
