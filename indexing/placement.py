"""Which shards a publisher lives on.

Rendezvous hashing (Thaler and Ravishankar, 1998) gives each publisher a shard, so that a new shard
takes publishers from all others and nothing else moves. What it shall not decide is assigned: a
pinned publisher, and one too large for a single shard, which is split in parts.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a publisher's references, for one too large for a single shard.

    Part ``number`` of ``count`` holds the references whose hash says so; the default holds all.
    """

    number: int = 0
    count: int = 1

    def holds(self, reference: str) -> bool:
        """Whether a reference belongs to this part."""
        return self.count == 1 or _hash(reference) % self.count == self.number


WHOLE = Part()


class Generation(NamedTuple):
    """What an index holds: a publisher's gallery, or a part of it, under one model version."""

    publisher: str
    part: Part
    model_version: str


class ShardState(StrEnum):
    """What a shard is there for."""

    JOINING = "joining"
    """It takes no publisher yet: it loads the galleries that will move to it."""
    ACTIVE = "active"
    DRAINING = "draining"
    """It has its publishers until their galleries are loaded elsewhere."""
    DRAINED = "drained"
    """It takes no publisher."""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A shard, its state, and since when it is in it."""

    number: int
    state: ShardState
    state_time: datetime


@dataclass(frozen=True, slots=True)
class Assignment:
    """The shards that a publisher was put on: one for each of its parts, in their order."""

    shards: tuple[int, ...]
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Location:
    """A part of a publisher's gallery, and the shard that it lives on."""

    shard: int
    part: Part


@dataclass(frozen=True, slots=True)
class Placement:
    """Which shards take publishers, and the publishers for which hashing does not decide."""

    shards: tuple[int, ...]
    assignments: Mapping[str, Assignment]

    def locate(self, publisher: str) -> tuple[Location, ...]:
        """Where a publisher's gallery lives: one location, or one for each of its parts."""
        assigned = self.assignments.get(publisher)
        shards = assigned.shards if assigned else (shard_of(publisher, self.shards),)
        return tuple(
            Location(shard, Part(number, len(shards))) for number, shard in enumerate(shards)
        )

    def changed(self, joined: Collection[int], drained: Collection[int]) -> "Placement":
        """The placement once some shards take publishers, and some do not any more.

        Publishers move to the joined shards and from the drained, and nothing else moves. A shard
        must be left, and no publisher be pinned to a drained one.
        """
        shards = tuple(sorted({*self.shards, *joined} - {*drained}))
        moved = {
            publisher: replace(assigned, shards=_moved(publisher, assigned.shards, shards))
            for publisher, assigned in self.assignments.items()
            if not {*drained}.isdisjoint(assigned.shards)
        }
        return Placement(shards, {**self.assignments, **moved})

    def with_assignment(self, publisher: str, assignment: Assignment | None) -> "Placement":
        """The placement with a publisher assigned so, or left to hashing."""
        others = {name: each for name, each in self.assignments.items() if name != publisher}
        return replace(self, assignments=others | ({publisher: assignment} if assignment else {}))

    def pinned_to(self, shard: int) -> list[str]:
        """The publishers that are pinned to a shard, by id."""
        return sorted(
            publisher
            for publisher, assigned in self.assignments.items()
            if assigned.pinned and shard in assigned.shards
        )

    def split(self, publisher: str, count: int) -> Assignment:
        """The publisher in so many parts, each on the best shard for it that has none yet."""
        shards: tuple[int, ...] = ()
        for _ in range(count):
            shards += (_best_free(publisher, shards, self.shards),)
        return Assignment(shards)


@dataclass(frozen=True, slots=True)
class Load:
    """What is placed on a shard: publishers, also those with only a part there, and images."""

    publishers: int
    images: int


def shard_of(publisher: str, shards: Iterable[int]) -> int:
    """The publisher's shard among the numbers of ``shards``, of which there is at least one."""
    return max(shards, key=lambda shard: _hash(f"{shard}/{publisher}"))


def parts_for(images: int, part_images: int, shards: int) -> int:
    """How many parts a publisher with so many images is split in.

    A power of two, so that a growing publisher is seldom split anew, and no more than there are
    shards, as parts on one shard would only be searched one after the other.
    """
    count = 1
    while count * part_images < images and count * 2 <= shards:
        count *= 2
    return count


def moves(
    before: Placement, after: Placement, publishers: Iterable[str]
) -> list[tuple[str, Location]]:
    """What lives elsewhere after a change: the publishers' locations that are new."""
    return [
        (publisher, location)
        for publisher in publishers
        for location in after.locate(publisher)
        if location not in before.locate(publisher)
    ]


def loads(placement: Placement, images: Mapping[str, int]) -> dict[int, Load]:
    """What is placed on each shard, given each publisher's images.

    The images of a publisher in parts count as spread evenly.
    """
    found = dict.fromkeys(placement.shards, Load(0, 0))
    for publisher, count in images.items():
        locations = placement.locate(publisher)
        for shard in {location.shard for location in locations}:
            here = [location.part for location in locations if location.shard == shard]
            load = found.get(shard, Load(0, 0))
            share = count * len(here) // len(locations)
            found[shard] = Load(load.publishers + 1, load.images + share)
    return found


def _moved(publisher: str, assigned: Sequence[int], shards: Sequence[int]) -> tuple[int, ...]:
    """The shards of the parts, those that are not among ``shards`` replaced."""
    placed = list(assigned)
    for part, number in enumerate(assigned):
        if number not in shards:
            kept = [each for each in placed if each in shards]
            placed[part] = _best_free(publisher, kept, shards)
    return tuple(placed)


def _best_free(publisher: str, taken: Sequence[int], shards: Sequence[int]) -> int:
    """The publisher's shard among those that are taken least often."""
    least = min(taken.count(shard) for shard in shards)
    return shard_of(publisher, [shard for shard in shards if taken.count(shard) == least])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
