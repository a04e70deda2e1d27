"""The model versions that this process has loaded, and which of them serves whom."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from indexing.bundle import Bundle, test_picture
from indexing.errors import BundleInvalid, DatabaseUnavailable, ImageLinkError, ModelUnavailable
from indexing.features import FeatureExtractor
from indexing.gallery_models import ModelStore
from indexing.recognition import Recogniser
from indexing.rollout import SWITCHED, Serving

COMPARE_SECONDS = 2.0
# What a loaded version takes beside the megabytes of its bundle, and how many times these.
MODEL_MB, BUNDLE_COPIES = 100, 4

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Model:
    """A model version, ready for pictures."""

    bundle: Bundle
    features: FeatureExtractor
    recogniser: Recogniser

    @property
    def version(self) -> str:
        """Its name."""
        return self.features.version


def warmed(bundle: Bundle, batch_size: int) -> Model:
    """A model whose network has run, alone and on a whole batch. Raises BundleInvalid."""
    features = FeatureExtractor(bundle)
    for count in {1, batch_size}:
        features.embed([test_picture()] * count)
    return Model(bundle, features, Recogniser(bundle))


def model_memory_mb(bundle_bytes: int) -> int:
    """What a process needs for a loaded model version, by its bundle, in MB; measured, not exact."""
    return MODEL_MB + BUNDLE_COPIES * bundle_bytes // 1_000_000


class ServingFollower:
    """What serves whom, as it was a moment ago.

    Notifications tell of changes; comparing epochs every two seconds is the net under them.
    ``last_known`` is the version in service when the server started, for a process that starts
    while the database is away.
    """

    def __init__(self, store: ModelStore, last_known: str) -> None:
        self._store = store
        self._serving = Serving(0, last_known, {}, None)
        self.changed = asyncio.Event()

    @property
    def serving(self) -> Serving:
        """What serves whom."""
        return self._serving

    async def refresh(self) -> Serving:
        """Looks into the database. Raises DatabaseUnavailable."""
        found = await self._store.serving()
        # An answer may be overtaken by that to a later question.
        if found.epoch >= self._serving.epoch:
            self._serving = found
            self.changed.set()
        return self._serving

    async def follow(self) -> None:
        """Keeps up with the changes, without end."""
        await asyncio.gather(self._follow_notifications(), self._follow_clock())

    async def _follow_notifications(self) -> None:
        async for _ in self._store.changes():
            with suppress(DatabaseUnavailable):
                await self.refresh()

    async def _follow_clock(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            with suppress(DatabaseUnavailable):
                if await self._store.epoch() != self._serving.epoch:
                    await self.refresh()


class Models:
    """The loaded model versions: those that serve, and that of the rollout under way.

    Never are more than these two loaded: what is not needed any more goes before another comes, and
    they come one at a time. ``name`` is this process's own: under it, it says which versions it has.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[Bundle]],
        follower: ServingFollower,
        store: ModelStore,
        name: str,
        batch_size: int,
    ) -> None:
        self._load = load
        self._follower = follower
        self._store = store
        self._name = name
        self._batch_size = batch_size
        self._loaded: dict[str, asyncio.Task[Model]] = {}
        self._loading = asyncio.Lock()

    async def get(self, version: str) -> Model:
        """A model version, loaded once.

        Raises ModelUnavailable, also for one that is neither loaded nor needed any more.
        """
        try:
            return await self._get(version)
        except BundleInvalid as error:
            raise ModelUnavailable(model=version) from error

    async def _get(self, version: str) -> Model:
        task = self._loaded.get(version)
        if task is None or (task.done() and task.exception() is not None):
            task = self._loaded[version] = asyncio.create_task(self._made(version))
        return await asyncio.shield(task)

    def version(self, publisher: str) -> str:
        """The version that serves a publisher."""
        return self._follower.serving.version(publisher)

    async def serving(self, publisher: str) -> Model:
        """The version that serves a publisher, loaded. Raises ModelUnavailable."""
        return await self.get(self.version(publisher))

    async def written(self) -> list[Model]:
        """The versions that an image needs features of, that in service first.

        Raises ModelUnavailable.
        """
        while True:
            versions = self._follower.serving.written
            try:
                return [await self.get(version) for version in versions]
            except ModelUnavailable:
                # One may have gone out of use while it waited to be loaded.
                if versions == self._follower.serving.written:
                    raise

    async def refresh(self) -> None:
        """Looks anew which versions serve. Raises DatabaseUnavailable."""
        await self._follower.refresh()

    async def begin(self) -> None:
        """Loads what serves now, before the first request. Raises ModelUnavailable."""
        with suppress(DatabaseUnavailable):
            await self._follower.refresh()
        await self.written()

    async def follow(self) -> None:
        """Drops what does not serve any more, loads what is to serve soon, and says so, without end."""
        while True:
            self._drop_needless()
            await self._load_all(self._follower.serving)
            with suppress(DatabaseUnavailable):
                await self._store.see_scanner(self._name, self._ready())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._follower.changed.wait(), COMPARE_SECONDS)
            self._follower.changed.clear()

    async def _load_all(self, serving: Serving) -> None:
        for version in serving.written:
            try:
                await self._get(version)
            except BundleInvalid as error:
                await self._give_up(serving, version, error)
            except ModelUnavailable:
                log.warning("model not loaded", version=version)

    async def _give_up(self, serving: Serving, version: str, error: BundleInvalid) -> None:
        rollout = serving.rollout
        if rollout is not None and version == rollout.model and rollout.state not in SWITCHED:
            with suppress(ImageLinkError):
                await self._store.fail(rollout.id, str(error))
        log.error("model refused", version=version, why=str(error))

    def _drop_needless(self) -> None:
        """Drops what is not needed. What still loads stays, so that it is not loaded twice."""
        needed = self._follower.serving.needed
        for version, task in list(self._loaded.items()):
            if task.done() and version not in needed:
                del self._loaded[version]

    def _ready(self) -> list[str]:
        done = [(version, task) for version, task in self._loaded.items() if task.done()]
        return [version for version, task in done if task.exception() is None]

    async def _made(self, version: str) -> Model:
        async with self._loading:
            self._drop_needless()
            # It may have gone out of use while it waited for others.
            if version not in self._follower.serving.needed:
                raise ModelUnavailable(model=version)
            bundle = await self._load(version)
            return await asyncio.to_thread(warmed, bundle, self._batch_size)
