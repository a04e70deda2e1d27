from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.artwork import draw_collection
from indexing.appearance import photo_levels
from indexing.bundle import Bundle
from indexing.features import FeatureExtractor
from indexing.gallery_index import GalleryIndex
from indexing.keypoints import Channel
from indexing.search import Query, SearchResult
from indexing.segment import IndexedReference, Segment, joined
from indexing.shard import Shard

PICTURES = {art.name: art.picture for art in draw_collection("poster", 4, seed=3)}


@pytest.fixture(scope="module")
def references(extractor: FeatureExtractor) -> dict[str, IndexedReference]:
    return {
        name: IndexedReference(
            name, f"https://example.com/{name}", {"room": name}, (extractor.reference(picture),)
        )
        for name, picture in PICTURES.items()
    }


@pytest.fixture
def gallery(bundle: Bundle) -> GalleryIndex:
    return Shard(bundle).empty_gallery()


def query(extractor: FeatureExtractor, name: str, channel: Channel) -> Query:
    picture = PICTURES[name]
    return Query(
        0,
        "acme",
        extractor.version,
        channel,
        extractor.query(picture, channel),
        photo_levels(picture),
        extractor.embed([picture]),
    )


def told(results: Sequence[SearchResult]) -> list[tuple[Any, ...]]:
    """All that results say."""
    return [
        (
            result.gallery_version,
            result.references,
            [
                (c.reference, c.link, c.metadata, c.evidence.geometry.quad.tolist())
                for c in result.candidates
            ],
            result.shortlist,
        )
        for result in results
    ]


def test_frozen_gallery_answers_the_same_when_thawed(
    bundle: Bundle,
    gallery: GalleryIndex,
    extractor: FeatureExtractor,
    references: dict[str, IndexedReference],
) -> None:
    first, second, third, fourth = references.values()
    gallery.apply(1, [fourth, second, first], [])
    gallery.apply(2, [third, replace(second, link="https://example.com/new")], [fourth.id])
    frozen = gallery.freeze()
    assert frozen is not None
    thawed = Shard(bundle).empty_gallery()
    thawed.thaw(frozen)

    for channel in Channel:
        queries = [query(extractor, name, channel) for name in PICTURES]
        before, after = gallery.search(queries), thawed.search(queries)
        assert [set(result.shortlist) for result in after] == [
            set(result.shortlist) for result in before
        ]
        for name, old, new in zip(PICTURES, before, after, strict=True):
            assert (new.gallery_version, new.references) == (2, 3)
            if name != fourth.id:
                assert told([new])[0][2][0] == told([old])[0][2][0]
    assert frozen.segment.find(fourth.id) is None


def test_thawed_gallery_goes_on_changing(
    bundle: Bundle,
    gallery: GalleryIndex,
    extractor: FeatureExtractor,
    references: dict[str, IndexedReference],
) -> None:
    first, second, *_ = references.values()
    gallery.apply(1, [first], [])
    frozen = gallery.freeze()
    assert frozen is not None
    thawed = Shard(bundle).empty_gallery()
    thawed.thaw(frozen)

    thawed.apply(2, [second], [first.id])
    (found,) = thawed.search([query(extractor, first.id, Channel.FINE)])
    assert (found.references, found.shortlist) == (1, (second.id,))
    thawed.apply(3, [], [second.id])
    (found,) = thawed.search([query(extractor, second.id, Channel.FINE)])
    assert (found.gallery_version, found.references, found.shortlist) == (3, 0, ())
    assert thawed.freeze() is None


def test_gallery_without_keypoints_in_one_channel_is_frozen_and_thawed(
    bundle: Bundle, extractor: FeatureExtractor, gallery: GalleryIndex
) -> None:
    name, picture = next(iter(PICTURES.items()))
    found = extractor.reference(picture)
    none = found.local[Channel.ORB].take(np.zeros(0, np.int64))
    found = replace(found, local={**found.local, Channel.ORB: none})
    gallery.apply(1, [IndexedReference(name, "https://example.com", {}, (found,))], [])
    frozen = gallery.freeze()
    assert frozen is not None
    thawed = Shard(bundle).empty_gallery()
    thawed.thaw(frozen)
    (result,) = thawed.search([query(extractor, name, Channel.FINE)])
    assert [candidate.reference for candidate in result.candidates] == [name]


def test_photos_searched_together_get_what_each_gets_alone(
    gallery: GalleryIndex, extractor: FeatureExtractor, references: dict[str, IndexedReference]
) -> None:
    gallery.apply(1, list(references.values()), [])
    queries = [query(extractor, name, Channel.FINE) for name in PICTURES]
    assert told(gallery.search(queries)) == told([gallery.search([each])[0] for each in queries])


def test_segment_gives_back_what_was_packed(references: dict[str, IndexedReference]) -> None:
    images = references["poster-01"].images
    two = replace(references["poster-02"], images=(*images, *references["poster-02"].images))
    segment = Segment.of([two, references["poster-01"]])

    assert (segment.references, segment.images) == (2, 3)
    number = segment.find("poster-02")
    assert number == 1
    assert segment.answer(number) == ("https://example.com/poster-02", {"room": "poster-02"})
    assert list(segment.images_of(number)) == [1, 2]
    assert [segment.reference_of(image) for image in range(3)] == [0, 1, 1]
    assert segment.find("poster-03") is None
    for channel in Channel:
        packed, given = segment.local(2, channel), two.images[1].local[channel]
        np.testing.assert_array_equal(packed.descriptors, given.descriptors)
        np.testing.assert_allclose(packed.points, given.points, atol=0.0003)
        np.testing.assert_allclose(packed.scales, given.scales, rtol=0.03)
    np.testing.assert_array_equal(segment.thumbnail(0), images[0].thumbnail)


def test_joined_segments_are_the_segment_of_all(references: dict[str, IndexedReference]) -> None:
    first, second, third, fourth = references.values()
    parts = [Segment.of([fourth, first]), Segment.of([third]), Segment.of([second])]
    whole, together = Segment.of([first, second, third, fourth]), joined(parts)
    assert whole.tensors.keys() == together.tensors.keys()
    for name, values in whole.tensors.items():
        np.testing.assert_array_equal(together.tensors[name], values, err_msg=name)


def test_part_of_a_segment_is_the_segment_of_that_part(
    references: dict[str, IndexedReference],
) -> None:
    first, second, third, fourth = references.values()
    taken = Segment.of([first, second, third, fourth]).take(np.array([1, 3]))
    for name, values in Segment.of([second, fourth]).tensors.items():
        np.testing.assert_array_equal(taken.tensors[name], values, err_msg=name)
