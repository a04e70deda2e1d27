"""Random operations of several publishers, crashes among them: each sees exactly its own."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from benchmarks.artwork import draw_collection
from indexing.appearance import photo_levels
from indexing.bundle import Bundle
from indexing.errors import (
    DatabaseUnavailable,
    ImageLinkError,
    PublisherNotFound,
    ReferenceNotFound,
    TooManyImages,
)
from indexing.features import FeatureExtractor
from indexing.gallery import GalleryStore, open_pool
from indexing.gallery_erasures import ErasureStore
from indexing.gallery_records import ImageFeatures, NewImage
from indexing.group_commit import GroupCommit
from indexing.keypoints import Channel
from indexing.migrations import migrate
from indexing.placement import WHOLE, Generation, Part
from indexing.replica import ShardReplica
from indexing.search import Query, SearchResult
from indexing.shard import Shard
from indexing.snapshot import SnapshotStore
from server.registration import image_features
from tests.conftest import Postgres
from tests.integration.references import a_reference

PUBLISHERS = ("one", "two", "three")
REFERENCES = ("r-1", "r-2", "r-3")
EXAMPLES = 40
STEPS = 50
PARTS = (WHOLE, WHOLE, Part(0, 2), Part(1, 2))
REPLICAS = 2
# About two of the galleries: with three publishers and their parts, some go all the time.
MEMORY_BUDGET = 200_000
FOLLOWED_SECONDS = 0.1

publishers = st.sampled_from(PUBLISHERS)
references = st.sampled_from(REFERENCES)
pictures = st.integers(0, 3)
replicas = st.integers(0, REPLICAS - 1)
parts = st.sampled_from(PARTS)
# One of as many things as there are just then.
choices = st.integers(0, 11)


@dataclass(frozen=True)
class Shown:
    """A reference as scans must see it."""

    link: str
    active: bool
    pictures: frozenset[int]


Contents = dict[str, Shown]


@dataclass
class Gallery:
    """A publisher as it is, and all that its galleries ever were."""

    version: int
    contents: Contents = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """What all examples share: a database, features of pictures, and questions about them."""

    dsn: str
    shard: Shard
    features: tuple[ImageFeatures, ...]
    queries: tuple[Query, ...]


class Run:
    """The store and two replicas, with a model of what each publisher registered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="isolation-"))
        self.galleries: dict[str, Gallery] = {}
        # Every state that a publisher's galleries had, by its version; also of deleted ones.
        self.history: dict[str, dict[int, list[Contents]]] = {name: {} for name in PUBLISHERS}
        self.links = 0
        self.kept: list[tuple[Path, bytes]] = []
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def _begin(self) -> None:
        self.pool = await self._opened()
        self.store = GalleryStore(self.pool)
        for publisher in await self.store.publisher_ids():
            await self.store.delete_publisher(publisher)
        self.replica_pools = [await self._opened() for _ in range(REPLICAS)]
        self.replicas = [self._new_replica(number) for number in range(REPLICAS)]
        for number, publisher in enumerate(PUBLISHERS):
            made = await self.store.create_publisher(publisher, publisher, 0.001)
            self.galleries[publisher] = Gallery(made.gallery_version)
            self._note(publisher)
            written = await self._register(publisher, REFERENCES[number], number)
            self._wrote(publisher, written.gallery_version)

    async def _opened(self) -> AsyncConnectionPool:
        return await open_pool(self.world.dsn, max_size=4, acquire_timeout=2.0)

    def _new_replica(self, number: int) -> ShardReplica:
        pool, shard = self.replica_pools[number], self.world.shard
        return ShardReplica(
            shard.generation,
            GalleryStore(pool),
            SnapshotStore(self.folder / str(number)),
            ErasureStore(pool),
            f"replica-{number}",
            MEMORY_BUDGET,
        )

    def close(self) -> None:
        for pool in [self.pool, *self.replica_pools]:
            self.run(pool.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    # What publishers do

    def create_publisher(self, publisher: str) -> None:
        if publisher not in self.galleries:
            made = self.run(self.store.create_publisher(publisher, publisher, 0.001))
            self.galleries[publisher] = Gallery(made.gallery_version)
            self._note(publisher)

    def delete_publisher(self, publisher: str) -> None:
        if self.galleries.pop(publisher, None):
            self.run(self.store.delete_publisher(publisher))

    def register(self, publisher: str, reference: str, picture: int) -> None:
        if publisher in self.galleries and reference not in self.galleries[publisher].contents:
            written = self.run(self._register(publisher, reference, picture))
            self._wrote(publisher, written.gallery_version)
            assert written.reference.link == self._link()

    def add_image(self, which: int, picture: int) -> None:
        if there := _chosen(self._references(), which):
            publisher, reference = there
            image = a_reference(f"{reference}-{picture}").image
            new = NewImage(publisher, reference, image, (self.world.features[picture],))
            with suppress(TooManyImages):
                written = self.run(self.store.add_image(new))
                self._change(publisher, reference, pictures={picture})
                self._wrote(publisher, written.gallery_version)

    def update(self, which: int, active: bool) -> None:
        if there := _chosen(self._references(), which):
            publisher, reference = there
            self.links += 1
            update = self.store.update_reference(
                publisher, reference, link=self._link(), active=active
            )
            written = self.run(update)
            self._change(publisher, reference, link=self._link(), active=active)
            self._wrote(publisher, written.gallery_version)

    def delete_reference(self, which: int) -> None:
        if there := _chosen(self._references(), which):
            publisher, reference = there
            erasure = self.run(self.store.delete_reference(publisher, reference))
            del self.galleries[publisher].contents[reference]
            self._wrote(publisher, erasure.gallery_version)

    # What goes wrong

    def die_while_registering(
        self, publisher: str, reference: str, picture: int, pauses: int
    ) -> None:
        """It is there wholly or not at all."""
        if publisher in self.galleries and reference not in self.galleries[publisher].contents:
            self.run(self._die_while_registering(publisher, reference, picture, pauses))

    async def _die_while_registering(
        self, publisher: str, reference: str, picture: int, pauses: int
    ) -> None:
        before = asyncio.all_tasks()
        registration = asyncio.create_task(self._register(publisher, reference, picture))
        for _ in range(pauses):
            await asyncio.sleep(0)
        begun = {registration, *_of_the_process(asyncio.all_tasks() - before)}
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        self.store = GalleryStore(self.pool)
        version = (await self.store.get_publisher(publisher)).gallery_version
        try:
            await self.store.get_reference(publisher, reference)
        except ReferenceNotFound:
            self.galleries[publisher].contents.pop(reference, None)
            assert version == self.galleries[publisher].version
        else:
            self._wrote(publisher, version)

    def lose_connections(self) -> None:
        """All that come after are new ones."""
        with psycopg.connect(self.world.dsn, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        for pool in (self.pool, *self.replica_pools):
            # Otherwise the first call of each waits a second.
            self.run(pool.check())

    def crash(self, number: int) -> None:
        self.replicas[number] = self._new_replica(number)

    def _crash_reader_of(self, path: Path) -> None:
        """Only a replica that starts reads a snapshot."""
        self.crash(int(path.relative_to(self.folder).parts[0]))

    def follow(self, number: int) -> None:
        """Changes come by themselves, and snapshots are written."""
        self.run(self._follow(number))

    async def _follow(self, number: int) -> None:
        with suppress(DatabaseUnavailable):
            await self.replicas[number].warm(
                Generation(publisher, WHOLE, self.world.shard.model_version)
                for publisher in PUBLISHERS
            )
        following = asyncio.create_task(self.replicas[number].follow())
        await asyncio.sleep(FOLLOWED_SECONDS)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    def damage_a_snapshot(self, which: int, at: float, cut: bool) -> None:
        path = _chosen(self._snapshots(), which)
        if path and path.stat().st_size:
            content = bytearray(path.read_bytes())
            self._crash_reader_of(path)
            place = int(at * len(content))
            if cut:
                _replaced(path, content[:place])
            else:
                content[place] ^= 0xFF
                _replaced(path, content)

    def swap_snapshots(self, which: int, other: int) -> None:
        source, target = _chosen(self._snapshots(), which), _chosen(self._snapshots(), other)
        if source and target:
            _replaced(target, source.read_bytes())
            self._crash_reader_of(target)

    def keep_a_snapshot(self, which: int) -> None:
        if path := _chosen(self._snapshots(), which):
            self.kept.append((path, path.read_bytes()))

    def restore_a_snapshot(self, which: int) -> None:
        if kept := _chosen(self.kept, which):
            path, content = kept
            path.parent.mkdir(parents=True, exist_ok=True)
            _replaced(path, content)
            self._crash_reader_of(path)

    # What must hold

    def scan(self, publisher: str, number: int, part: Part, picture: int) -> None:
        """It sees one state that the publisher's gallery had."""
        answer = self._searched(publisher, number, part, picture, 0)
        if isinstance(answer, SearchResult):
            states = self.history[publisher][answer.gallery_version]
            assert any(_shows(answer, state, part, picture) for state in states)
        else:
            assert publisher not in self.galleries

    def scan_with_token(self, publisher: str, number: int, part: Part, picture: int) -> None:
        """It sees exactly what the publisher's gallery is."""
        gallery = self.galleries.get(publisher)
        if gallery is not None:
            answer = self._searched(publisher, number, part, picture, gallery.version)
            assert isinstance(answer, SearchResult), answer
            assert answer.gallery_version == gallery.version
            assert _shows(answer, gallery.contents, part, picture)

    def list_references(self, publisher: str) -> None:
        listed = self.run(self.store.list_references(publisher, None, 100))
        there = self.galleries[publisher].contents if publisher in self.galleries else {}
        assert {each.id: (each.link, each.active) for each in listed} == {
            name: (shown.link, shown.active) for name, shown in there.items()
        }

    # The model

    async def _register(self, publisher: str, reference: str, picture: int) -> Any:
        self.links += 1
        shown = Shown(self._link(), True, frozenset({picture}))
        self.galleries[publisher].contents[reference] = shown
        new = a_reference(
            reference,
            publisher=publisher,
            link=self._link(),
            features=(self.world.features[picture],),
        )
        return await self.store.register(new)

    def _link(self) -> str:
        return f"https://example.com/{self.links}"

    def _references(self) -> list[tuple[str, str]]:
        return [
            (name, each)
            for name in sorted(self.galleries)
            for each in sorted(self.galleries[name].contents)
        ]

    def _change(self, publisher: str, reference: str, **changes: Any) -> None:
        old = self.galleries[publisher].contents[reference]
        new = Shown(
            changes.get("link", old.link),
            changes.get("active", old.active),
            old.pictures | changes.get("pictures", set()),
        )
        self.galleries[publisher].contents[reference] = new

    def _wrote(self, publisher: str, version: int) -> None:
        assert version == self.galleries[publisher].version + 1
        self.galleries[publisher].version = version
        self._note(publisher)

    def _note(self, publisher: str) -> None:
        gallery = self.galleries[publisher]
        states = self.history[publisher].setdefault(gallery.version, [])
        states.append(dict(gallery.contents))

    def _searched(
        self, publisher: str, number: int, part: Part, picture: int, version: int
    ) -> SearchResult | ImageLinkError:
        question = self.world.queries[picture]
        query = Query(
            photo=0,
            publisher=publisher,
            model_version=question.model_version,
            channel=question.channel,
            local=question.local,
            levels=question.levels,
            embedding=question.embedding,
            min_gallery_version=version,
            part=part,
        )
        (answer,) = self.run(self.replicas[number].search([query]))
        if isinstance(answer, DatabaseUnavailable):
            # A pool notices a lost connection when it uses it; the next it makes anew.
            (answer,) = self.run(self.replicas[number].search([query]))
        assert isinstance(answer, SearchResult | PublisherNotFound), answer
        return answer

    def _snapshots(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


T = TypeVar("T")
Step = tuple[Callable[..., None], dict[str, Any]]


places = {"publisher": publishers, "number": replicas, "part": parts, "picture": pictures}
new = {"publisher": publishers, "reference": references, "picture": pictures}
# Each kind of step, what it takes, and how often it comes beside the others.
KINDS: tuple[tuple[Callable[..., None], dict[str, st.SearchStrategy[Any]], int], ...] = (
    (Run.create_publisher, {"publisher": publishers}, 2),
    (Run.delete_publisher, {"publisher": publishers}, 1),
    (Run.register, new, 5),
    (Run.add_image, {"which": choices, "picture": pictures}, 2),
    (Run.update, {"which": choices, "active": st.booleans()}, 3),
    (Run.delete_reference, {"which": choices}, 2),
    (Run.die_while_registering, new | {"pauses": st.integers(0, 12)}, 1),
    (Run.lose_connections, {}, 1),
    (Run.crash, {"number": replicas}, 1),
    (Run.follow, {"number": replicas}, 3),
    (
        Run.damage_a_snapshot,
        {"which": choices, "at": st.floats(0, 0.999), "cut": st.booleans()},
        1,
    ),
    (Run.swap_snapshots, {"which": choices, "other": choices}, 3),
    (Run.keep_a_snapshot, {"which": choices}, 1),
    (Run.restore_a_snapshot, {"which": choices}, 1),
    (Run.scan, places, 3),
    (Run.scan_with_token, places, 6),
    (Run.list_references, {"publisher": publishers}, 1),
)
steps: st.SearchStrategy[Step] = st.sampled_from(
    [(work, arguments) for work, arguments, times in KINDS for _ in range(times)]
).flatmap(lambda kind: st.tuples(st.just(kind[0]), st.fixed_dictionaries(kind[1])))


def _of_the_process(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """The store's own; a pool of connections has others, with which the next process goes on."""
    return {task for task in tasks if GroupCommit.__name__ in repr(task)}


def _chosen(among: list[T], which: int) -> T | None:
    return among[which % len(among)] if among else None


def _replaced(path: Path, content: bytes | bytearray) -> None:
    """Puts a file in the place of one that may be mapped: shortened, that would end the process."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _shows(answer: SearchResult, contents: Contents, part: Part, picture: int) -> bool:
    """Whether an answer is right for a gallery: all its references, and their own links."""
    there = {name: shown for name, shown in contents.items() if shown.active and part.holds(name)}
    found = {each.reference: each.link for each in answer.candidates}
    return (
        answer.references == len(there)
        and set(answer.shortlist) == set(there)
        and all(there[name].link == link for name, link in found.items())
        and all(name in found for name, shown in there.items() if picture in shown.pictures)
    )


@pytest.fixture
def world(postgres: Postgres, bundle: Bundle, extractor: FeatureExtractor) -> World:
    dsn = postgres.create_database()
    asyncio.run(migrate(dsn))
    drawn = [art.picture for art in draw_collection("poster", 4, seed=3)]
    features, queries = [], []
    for picture in drawn:
        features.append(image_features(extractor, picture))
        local = extractor.query(picture, Channel.ORB)
        embedding = extractor.embed([picture])
        queries.append(
            Query(0, "", bundle.version, Channel.ORB, local, photo_levels(picture), embedding)
        )
    return World(dsn, Shard(bundle), tuple(features), tuple(queries))


@pytest.fixture
def fast_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.replica.SNAPSHOT_SECONDS", 0.02)
    monkeypatch.setattr("indexing.replica.SNAPSHOT_REST", 0.0)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(done=st.lists(steps, min_size=STEPS, max_size=STEPS))
def test_each_publisher_sees_exactly_its_own(
    world: World, fast_snapshots: None, done: list[Step]
) -> None:
    run = Run(world)
    try:
        for work, arguments in done:
            work(run, **arguments)
    finally:
        run.close()
