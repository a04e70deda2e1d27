from pathlib import Path

import cv2
import numpy as np
import pytest

from training.datasets import DatasetError
from training.mining import (
    HardNegative,
    Pool,
    Verdict,
    embed_pool,
    mine,
    read_negatives,
    write_negatives,
)


def pool(count=12, dimension=16):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    thumbnails = rng.integers(0, 256, (count, 256), np.uint8)
    return Pool(tuple(Path(f"{number}.jpg") for number in range(count)), vectors, thumbnails)


def test_the_nearest_others_are_mined_in_their_order():
    pictures = pool()
    similarity = pictures.embeddings @ pictures.embeddings.T - 9 * np.eye(12)
    found = mine(pictures, references=5, each=3)
    assert {each.picture for each in found} == set(pictures.paths[:5])
    for row in range(5):
        own = [each.negative for each in found if each.picture == pictures.paths[row]]
        assert own == [pictures.paths[n] for n in np.argsort(-similarity[row])[:3]]


def test_a_near_duplicate_is_no_negative():
    pictures = pool()
    pictures.embeddings[7] = pictures.embeddings[0]
    pictures.thumbnails[7] = pictures.thumbnails[0]
    found = mine(pictures, references=1, each=4)
    assert len(found) == 4
    assert Path("7.jpg") not in {each.negative for each in found}


def test_two_pictures_with_one_embedding_that_look_different_are_the_hardest():
    pictures = pool()
    pictures.embeddings[7] = pictures.embeddings[0]
    assert mine(pictures, references=1, each=1)[0].negative == Path("7.jpg")


def test_verdicts_are_obeyed():
    pictures = pool()
    first, second = mine(pictures, references=1, each=2)
    same = HardNegative(first.negative, first.picture, 0.5, Verdict.SAME)
    assert mine(pictures, 1, 1, [same])[0].negative == second.negative
    pictures.embeddings[7] = pictures.embeddings[0]
    pictures.thumbnails[7] = pictures.thumbnails[0]
    different = HardNegative(Path("0.jpg"), Path("7.jpg"), 1.0, Verdict.DIFFERENT)
    (found,) = mine(pictures, 1, 1, [different])
    assert (found.negative, found.verdict) == (Path("7.jpg"), Verdict.DIFFERENT)


def test_a_file_keeps_verdicts_and_has_the_most_similar_first(tmp_path):
    weak = HardNegative(Path("a, b.jpg"), Path("c.jpg"), 0.25, Verdict.SAME)
    strong = HardNegative(Path("c.jpg"), Path("d.jpg"), 0.75)
    file = tmp_path / "deep" / "negatives.csv"
    write_negatives([weak, strong], file)
    assert read_negatives(file) == [strong, weak]


def test_every_bad_line_of_a_file_is_named(tmp_path):
    file = tmp_path / "negatives.csv"
    file.write_text("picture,negative,similarity,verdict\na,b,0.5,maybe\na,b,much,\na,b,0.5,same\n")
    with pytest.raises(DatasetError) as caught:
        read_negatives(file)
    assert len(caught.value.problems) == 2
    assert "line 2: 'maybe'" in str(caught.value)
    assert "line 3" in str(caught.value)


@pytest.mark.parametrize("content", [None, "one,two\n"])
def test_a_missing_or_foreign_file_is_refused(tmp_path, content):
    file = tmp_path / "negatives.csv"
    if content:
        file.write_text(content)
    with pytest.raises(DatasetError, match=r"negatives\.csv"):
        read_negatives(file)


def test_a_pool_is_of_the_network_s_own_embeddings(bundle, tmp_path):
    pictures = [np.full((40, 30, 3), level, np.uint8) for level in (0, 128, 255)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), picture)
    made = embed_pool(bundle.embedder, paths)
    expected = bundle.embedder.embed_references(pictures).vectors
    assert np.allclose(made.embeddings, expected, atol=1e-5)
    assert made.thumbnails.shape == (3, 256)
