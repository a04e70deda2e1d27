"""Which shards publishers live on: what a change moves, and what it leaves where it is."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from indexing.placement import (
    WHOLE,
    Assignment,
    Load,
    Location,
    Part,
    Placement,
    loads,
    moves,
    parts_for,
    shard_of,
)

PUBLISHERS = [f"publisher-{number}" for number in range(40)]
NUMBERS = st.integers(0, 30)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Any shards, on which some publishers are pinned and some in parts."""
    shards = tuple(sorted(draw(st.sets(NUMBERS, min_size=1, max_size=8))))
    pins = draw(st.dictionaries(st.sampled_from(PUBLISHERS), st.sampled_from(shards), max_size=10))
    pinned = {name: Assignment((shard,), pinned=True) for name, shard in pins.items()}
    hashed = Placement(shards, pinned)
    large = draw(st.sets(st.sampled_from(PUBLISHERS), max_size=10)) - pinned.keys()
    counts = st.sampled_from([2, 4, 8])
    split = {name: hashed.split(name, draw(counts)) for name in sorted(large)}
    return replace(hashed, assignments=pinned | split)


def moved(before: Placement, after: Placement) -> list[tuple[str, Location, Location]]:
    """What lives elsewhere: its publisher, and where it lived and lives."""
    return [
        (publisher, old, new)
        for publisher in PUBLISHERS
        for old, new in zip(before.locate(publisher), after.locate(publisher), strict=True)
        if old != new
    ]


@given(placements(), NUMBERS)
def test_a_shard_that_joins_takes_publishers_and_no_other_does(before: Placement, new: int) -> None:
    assume(new not in before.shards)
    changes = moved(before, before.changed([new], []))
    assert {location.shard for _, _, location in changes} <= {new}
    assert {publisher for publisher, _, _ in changes}.isdisjoint(before.assignments)


@given(placements(), st.data())
def test_shards_that_drain_lose_all_and_no_other_loses_any(
    before: Placement, data: st.DataObject
) -> None:
    pinned = {a.shards[0] for a in before.assignments.values() if a.pinned}
    free = sorted(set(before.shards) - pinned)
    drained = data.draw(st.sets(st.sampled_from(free), min_size=1) if free else st.just(set()))
    assume(drained and drained < set(before.shards))
    after = before.changed([], drained)
    assert {location.shard for _, location, _ in moved(before, after)} <= drained
    lived_on = {each.shard for name in PUBLISHERS for each in after.locate(name)}
    assert lived_on <= set(after.shards) == set(before.shards) - drained


@given(placements(), NUMBERS)
def test_pins_stay_whatever_joins_and_drains(before: Placement, new: int) -> None:
    pins = {name: a.shards[0] for name, a in before.assignments.items() if a.pinned}
    unpinned = [shard for shard in before.shards if shard not in pins.values()]
    assume(new not in before.shards)
    after = before.changed([new], unpinned)
    for publisher, shard in pins.items():
        assert after.locate(publisher) == (Location(shard, WHOLE),)


@given(placements(), NUMBERS)
def test_a_shard_that_joined_and_is_drained_leaves_everything_as_it_was(
    before: Placement, new: int
) -> None:
    assume(new not in before.shards)
    assert before.changed([new], []).changed([], [new]) == before


@given(placements(), st.sampled_from(PUBLISHERS), st.integers(1, 16))
def test_parts_are_spread_over_as_many_shards_as_there_are(
    placement: Placement, publisher: str, count: int
) -> None:
    shards = placement.split(publisher, count).shards
    on_each = [shards.count(shard) for shard in placement.shards]
    assert sum(on_each) == count
    assert max(on_each) - min(on_each) <= 1


@given(placements(), st.data())
def test_parts_of_a_drained_shard_avoid_shards_that_have_one(
    placement: Placement, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, max(len(placement.shards) - 1, 1)))
    assume(count < len(placement.shards))
    parts = placement.split("large", count)
    placement = placement.with_assignment("large", parts)
    after = placement.changed([], [data.draw(st.sampled_from(parts.shards))])
    assert len(set(after.assignments["large"].shards)) == count


@given(st.integers(0, 2_000_000), st.integers(1, 200_000), st.integers(1, 32))
def test_parts_are_no_larger_than_allowed_where_there_are_shards_for_them(
    images: int, part_images: int, shards: int
) -> None:
    count = parts_for(images, part_images, shards)
    assert count & (count - 1) == 0, "a power of two"
    assert count <= shards
    assert images <= count * part_images or count * 2 > shards
    assert count == 1 or images > count // 2 * part_images


def test_hashing_spreads_publishers_evenly() -> None:
    names = [f"publisher-{number}" for number in range(2000)]
    counts = [0] * 4
    for name in names:
        counts[shard_of(name, range(4))] += 1
    assert min(counts) > 400


def test_a_new_shard_takes_its_share() -> None:
    names = [f"publisher-{number}" for number in range(500)]
    before, after = (Placement(tuple(range(count)), {}) for count in (4, 5))
    assert 50 < len(moves(before, after, names)) < 150


def test_every_reference_belongs_to_one_part() -> None:
    parts = [Part(number, 4) for number in range(4)]
    held = [[part.holds(f"reference-{number}") for part in parts] for number in range(400)]
    assert all(sum(each) == 1 for each in held)
    assert min(map(sum, zip(*held, strict=True))) > 50


def test_moves_name_the_parts_that_have_a_new_shard() -> None:
    before = Placement((0, 1, 2), {"large": Assignment((0, 1))})
    after = before.changed([], [1])
    assert moves(before, after, ["large"]) == [("large", Location(2, Part(1, 2)))]


def test_a_publisher_that_is_split_moves_in_all_of_its_parts() -> None:
    before = Placement((0, 1), {})
    after = before.with_assignment("large", Assignment((0, 1)))
    moving = moves(before, after, ["large"])
    assert moving == [("large", Location(0, Part(0, 2))), ("large", Location(1, Part(1, 2)))]


def test_loads_count_a_publisher_on_each_of_its_shards_and_its_images_evenly() -> None:
    pinned = Assignment((1,), pinned=True)
    placement = Placement((0, 1, 2), {"large": Assignment((0, 1, 1, 1)), "small": pinned})
    assert loads(placement, {"large": 400, "small": 7}) == {
        0: Load(1, 100),
        1: Load(2, 307),
        2: Load(0, 0),
    }


@pytest.mark.parametrize("shards", [(0,), (3, 5)])
def test_without_assignments_a_publisher_lives_whole_on_one_shard(shards: tuple[int, ...]) -> None:
    (location,) = Placement(shards, {}).locate("acme")
    assert location.shard in shards
    assert location.part == WHOLE
