import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from benchmarks.__main__ import app
from benchmarks.artwork import draw_collection
from benchmarks.candidate_sources import (
    CENTRE,
    CHECKS,
    EMBEDDING,
    UNION,
    AskedPhoto,
    CandidateGallery,
    Check,
    Matched,
    Shortlist,
    VoteSource,
    ask,
    dominant_similarity,
    inlier_count,
    interleaved,
    vote_sources,
)
from benchmarks.candidates import VIEWS, Trial, summarised
from indexing.bundle import Bundle
from indexing.descriptor_index import DescriptorIndex, descriptor_ids
from indexing.features import FeatureExtractor
from indexing.gallery_index import VOTING_KEYPOINTS
from indexing.keypoints import Channel, LocalFeatures
from indexing.segment import IndexedReference
from indexing.verification import MIN_INLIERS
from indexing.views import ViewConditions, clutter, render_view
from indexing.voting import vote

EASY = ViewConditions().eased(0.1)
ART = {art.name: art.picture for art in draw_collection("poster", 6, seed=8)}


@pytest.fixture(scope="module")
def sources(bundle: Bundle) -> tuple[VoteSource, ...]:
    return vote_sources(bundle)


@pytest.fixture(scope="module")
def references(bundle: Bundle) -> list[IndexedReference]:
    extractor = FeatureExtractor(bundle)
    return [
        IndexedReference(name, "", {}, (extractor.reference(picture),))
        for name, picture in ART.items()
    ]


@pytest.fixture(scope="module")
def gallery(bundle: Bundle, references: list[IndexedReference]) -> CandidateGallery:
    gallery = CandidateGallery(bundle)
    for first in (0, 2, 4):
        gallery.add(references[first : first + 2])
    return gallery


@pytest.fixture(scope="module")
def photos(bundle: Bundle, sources: tuple[VoteSource, ...]) -> list[AskedPhoto]:
    rng = np.random.default_rng(4)
    background = clutter([], (640, 480), rng)
    return [
        ask(bundle, sources, "views", render_view(picture, background, EASY, rng).photo, [name])
        for name, picture in ART.items()
    ]


def listed(*references: str, extraction: float = 0.0, search: float = 0.0) -> Shortlist:
    return Shortlist(references, (EMBEDDING,), extraction, search)


def keypoints(count: int, rng: np.random.Generator) -> LocalFeatures:
    """Keypoints anywhere, of any size and direction."""
    return LocalFeatures(
        rng.random((count, 2), np.float32),
        rng.uniform(0.01, 0.1, count).astype(np.float32),
        rng.uniform(0, 2 * np.pi, count).astype(np.float32),
        np.zeros((count, 1), np.uint8),
        1.0,
    )


def seen_from_above(known: LocalFeatures, degrees: float, scale: float) -> LocalFeatures:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return replace(
        known,
        points=(scale * known.points @ turn.T + 0.3).astype(np.float32),
        scales=scale * known.scales,
        angles=((known.angles + angle) % (2 * np.pi)).astype(np.float32),
    )


def matched(query: LocalFeatures, reference: LocalFeatures) -> Matched:
    return Matched(query, reference, np.ones(len(query), np.float32))


def mixed(first: LocalFeatures, second: LocalFeatures, count: int) -> LocalFeatures:
    """The first ``count`` keypoints of one, and the others of another."""
    return replace(
        first,
        points=np.concatenate([first.points[:count], second.points[count:]]),
        scales=np.concatenate([first.scales[:count], second.scales[count:]]),
        angles=np.concatenate([first.angles[:count], second.angles[count:]]),
    )


def test_votes_put_what_the_photo_shows_first(
    gallery: CandidateGallery, photos: list[AskedPhoto], sources: tuple[VoteSource, ...]
) -> None:
    assert len(gallery) == len(ART)
    for photo in photos:
        shortlists = dict(gallery.shortlists(photo, sources))
        for channel in Channel:
            assert shortlists[channel].references[0] == photo.expected[0]
            for check in CHECKS:
                reranked = shortlists[f"{channel}, reranked by {check}"]
                assert reranked.references[0] == photo.expected[0]
                assert set(reranked.references) == set(shortlists[channel].references)


def test_every_source_is_asked_and_lists_each_reference_once(
    gallery: CandidateGallery, photos: list[AskedPhoto], sources: tuple[VoteSource, ...]
) -> None:
    shortlists = dict(gallery.shortlists(photos[0], sources))

    assert {source.name for source in sources} < set(shortlists)
    assert set(photos[0].embeddings) < set(shortlists)
    for shortlist in shortlists.values():
        assert shortlist.references
        assert len(set(shortlist.references)) == len(shortlist.references)
        assert set(shortlist.references) <= set(ART)
        assert min(shortlist.extraction, shortlist.search) > 0


@pytest.mark.parametrize("channel", Channel)
def test_a_channel_ranks_as_the_product_does(
    bundle: Bundle,
    references: list[IndexedReference],
    gallery: CandidateGallery,
    sources: tuple[VoteSource, ...],
    channel: Channel,
) -> None:
    local = [reference.images[0].local[channel] for reference in references]
    index = DescriptorIndex(channel, bundle.codebooks[channel].quantizers())
    ids = descriptor_ids(np.arange(len(local)), np.cumsum([len(each) for each in local]))
    index.add(ids, np.concatenate([each.descriptors for each in local]))
    extractor = FeatureExtractor(bundle)
    for picture in ART.values():
        voting = extractor.query(picture, channel).descriptors[:VOTING_KEYPOINTS]
        own = vote(*index.search(voting)).ranking(50)

        photo = ask(bundle, sources, "pictures", picture, ())
        found = dict(gallery.shortlists(photo, sources))[channel]

        assert found.references == tuple(references[row].id for row, _ in own)


def test_sources_differ_in_what_they_ask(
    bundle: Bundle, photos: list[AskedPhoto], sources: tuple[VoteSource, ...]
) -> None:
    names = [source.name for source in sources]
    assert len(set(names)) == len(names)
    settings = {(source.extraction, source.neighbours, source.lists) for source in sources}
    assert len(settings) == len(sources)
    for extraction, (local, _) in photos[0].local.items():
        assert 0 < len(local) <= extraction.descriptors * (1 + extraction.centre)


def test_more_of_the_photo_is_asked_with_its_middle(photos: list[AskedPhoto]) -> None:
    for photo in photos:
        local = {extraction: features for extraction, (features, _) in photo.local.items()}
        for extraction, features in local.items():
            if extraction.centre:
                plain = next(
                    other
                    for each, other in local.items()
                    if not each.centre
                    and (each.channel, each.descriptors, each.side)
                    == (extraction.channel, extraction.descriptors, extraction.side)
                )
                added = features.points[len(plain) :]
                assert len(added)
                assert np.abs(added - 0.5).max() <= CENTRE / 2 + 0.01
        assert [len(each.vectors) for each, _ in photo.embeddings.values()] == [1, 2]


def test_bytes_are_those_of_the_features(
    gallery: CandidateGallery, references: list[IndexedReference]
) -> None:
    sizes = gallery.bytes_per_image()
    images = [reference.images[0] for reference in references]

    assert sizes[EMBEDDING] == images[0].embedding.vectors.nbytes
    for channel in Channel:
        local = [image.local[channel] for image in images]
        ids = 8 * sum(len(each) for each in local)
        stored = sum(each.descriptors.nbytes for each in local)
        assert sizes[channel] == pytest.approx((ids + stored) / len(images))
        geometry = sum(
            each.points.nbytes + each.scales.nbytes + each.angles.nbytes for each in local
        )
        assert sizes[f"{channel} geometry"] == pytest.approx(geometry / len(images))


def test_a_union_takes_turns_and_costs_what_its_parts_cost() -> None:
    first = listed("cat", "dog", "cow", extraction=1.0, search=2.0)
    second = Shortlist(("cow", "hen"), ("orb",), 10.0, 20.0)

    union = interleaved([first, second])

    assert union.references == ("cat", "cow", "dog", "hen")
    assert union.parts == (EMBEDDING, "orb")
    assert (union.extraction, union.search) == (11.0, 22.0)


def test_a_union_is_no_longer_than_its_parts() -> None:
    many = [listed(*(f"{letter}{number}" for number in range(50))) for letter in "ab"]

    union = interleaved(many)

    assert len(union.references) == 50
    assert union.references[:4] == ("a0", "b0", "a1", "b1")


def test_recall_is_of_references_by_set_of_photos() -> None:
    many = tuple(f"{number}" for number in range(30))
    trials = [
        Trial("covers", ("cat",), listed("cat", extraction=1.0, search=1.0)),
        Trial("covers", ("cat", "dog"), listed(*many[:3], "dog", extraction=1.0, search=3.0)),
        Trial(VIEWS, ("hen",), listed(*many, "hen", extraction=1.0, search=9.0)),
    ]

    report = summarised(trials, {EMBEDDING: 500.0})

    assert report["recall"] == {"1": 0.25, "5": 0.5, "20": 0.5, "50": 0.75}
    assert report["recall_by_photos"]["covers"] == pytest.approx(
        {"1": 1 / 3, "5": 2 / 3, "20": 2 / 3, "50": 2 / 3}
    )
    assert report["recall_by_photos"][VIEWS] == {"1": 0.0, "5": 0.0, "20": 0.0, "50": 1.0}
    assert report["search_milliseconds"] == 3.0
    assert report["milliseconds"] == 4.0
    assert report["recall_per_millisecond"] == pytest.approx(0.5 / 4.0)
    assert report["recall_per_kilobyte"] == pytest.approx(0.5 / 0.5)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_check_tells_a_thing_among_chance_matches_from_chance_alone(check: Check) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        known, chance = keypoints(40, rng), keypoints(40, rng)
        seen = mixed(seen_from_above(known, 35, 0.6), chance, 14)
        assert check(matched(seen, known)) > check(matched(chance, known))


def test_what_turns_and_scales_alike_is_found_wherever_the_bins_begin() -> None:
    known = keypoints(30, np.random.default_rng(2))
    for degrees in range(0, 360, 5):
        for scale in (0.3, 0.5, 0.99, 1.0, 1.01, 2.0):
            seen = seen_from_above(known, degrees, scale)
            assert dominant_similarity(matched(seen, known)) == pytest.approx(30)


def test_heavy_matches_count_more_than_many() -> None:
    rng = np.random.default_rng(7)
    known = keypoints(30, rng)
    seen = mixed(seen_from_above(known, 100, 0.5), seen_from_above(known, 0, 1.0), 10)
    weights = np.where(np.arange(30) < 10, 5.0, 1.0).astype(np.float32)

    assert dominant_similarity(Matched(seen, known, weights)) == pytest.approx(50)


def test_a_check_of_next_to_nothing_is_no_evidence() -> None:
    rng = np.random.default_rng(0)
    none, few = keypoints(0, rng), keypoints(MIN_INLIERS - 1, rng)

    assert dominant_similarity(matched(none, none)) == inlier_count(matched(none, none)) == 0.0
    assert inlier_count(matched(few, few)) == 0.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of six posters with a photo of each, and a folder of three other pictures."""
    folder = tmp_path_factory.mktemp("data")
    dataset, distractors = folder / "posters", folder / "distractors"
    for path in (dataset / "references", dataset / "queries", distractors):
        path.mkdir(parents=True)
    rng = np.random.default_rng(6)
    rows = ["query,references", "queries/nothing.png,"]
    Image.fromarray(clutter([], (640, 480), rng)).save(dataset / "queries" / "nothing.png")
    for name, picture in ART.items():
        photo = render_view(picture, clutter([], (640, 480), rng), EASY, rng).photo
        Image.fromarray(picture).save(dataset / "references" / f"{name}.png")
        Image.fromarray(photo).save(dataset / "queries" / f"{name}.png")
        rows.append(f"queries/{name}.png,references/{name}.png")
    (dataset / "pairs.csv").write_text("\n".join(rows) + "\n")
    for art in draw_collection("painting", 3, seed=8):
        Image.fromarray(art.picture).save(distractors / f"{art.name}.png")
    return dataset, distractors


def invoke(data: tuple[Path, Path], folder: Path, *arguments: str) -> tuple[Result, Path]:
    dataset, distractors = data
    output = folder / "out" / "report.json"
    places = [f"--dataset={dataset}", f"--distractors={distractors}", f"--output={output}"]
    command = ["candidates", *places, f"--cache={folder / 'cache'}", *arguments]
    return CliRunner().invoke(app, command), output


def test_the_command_reports_each_source_in_each_gallery(
    data: tuple[Path, Path], tmp_path: Path, sources: tuple[VoteSource, ...]
) -> None:
    result, output = invoke(data, tmp_path, "--sizes=40", "--sizes=8", "--views=5")

    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text())
    assert report["photos"] == {"posters": 6, VIEWS: 5}
    assert list(report["galleries"]) == ["8", "40"]
    assert set(report["settings"]) == {source.name for source in sources}
    union = UNION.join([*Channel, EMBEDDING])
    for gallery in report["galleries"].values():
        assert {EMBEDDING, union} | set(report["settings"]) < set(gallery)
        for source in gallery.values():
            recalls = list(source["recall"].values())
            assert all(less <= more for less, more in pairwise(recalls))
        for channel in Channel:
            assert gallery[channel]["recall_by_photos"]["posters"]["1"] == 1.0
        assert gallery[union]["bytes_per_image"] == pytest.approx(
            sum(gallery[part]["bytes_per_image"] for part in [EMBEDDING, *Channel])
        )
    assert union in result.output


def test_at_most_so_many_photos_are_asked(data: tuple[Path, Path], tmp_path: Path) -> None:
    result, output = invoke(data, tmp_path, "--sizes=6", "--views=0", "--queries=2")

    assert result.exit_code == 0, result.output
    assert json.loads(output.read_text())["photos"] == {"posters": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sizes=3", "--sizes=8"], "a gallery of 6"),
        (["--sizes=6", "--views=0", "--queries=0"], "no photo"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    data: tuple[Path, Path], tmp_path: Path, arguments: list[str], words: str
) -> None:
    result, output = invoke(data, tmp_path, *arguments)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert not output.exists()
