import numpy as np
import pytest
import torch

from indexing.embedding import Embeddings
from indexing.errors import ModelVersionMismatch
from indexing.framing import Framing
from indexing.network import EmbeddingNetwork, TorchEmbedder, as_batch


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(0)
    return TorchEmbedder(EmbeddingNetwork(dimension=16), "v1", Framing(64, 48))


def pictures(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 9 * i, 50, 3), dtype=np.uint8) for i in range(count)]


def test_embeddings_of_two_versions_refuse_comparison():
    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(ModelVersionMismatch, match=r"model v2 cannot be compared .* model v1"):
        Embeddings("v1", vectors).similarity(Embeddings("v2", vectors))


def test_similarity_is_the_cosine_of_every_two():
    rows = Embeddings("v1", np.eye(3, dtype=np.float32)[:2])
    columns = Embeddings("v1", np.eye(3, dtype=np.float32))
    assert rows.similarity(columns).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_pictures_of_any_size_become_unit_vectors_of_the_version(embedder):
    embeddings = embedder.embed(pictures(3))
    assert embeddings.version == "v1"
    assert embeddings.vectors.dtype == np.float32
    assert embeddings.vectors.shape == (3, 16)
    assert np.allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-5)


def test_a_picture_embeds_alike_alone_and_in_a_batch(embedder):
    three = pictures(3)
    together, alone = embedder.embed(three), embedder.embed(three[1:2])
    assert together.similarity(alone)[1, 0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((480, 640), (168, 224)),
        ((4000, 3000), (224, 168)),
        ((90, 90), (192, 192)),
        ((1080, 1920), (144, 256)),
        ((10, 900), (120, 304)),
    ],
)
def test_a_picture_that_keeps_its_aspect_has_as_many_pixels_as_the_square(size, shape):
    picture = np.zeros((*size, 3), np.uint8)
    assert Framing(192, 128, keep_aspect=True).photo(picture).shape[:2] == shape
    assert Framing(192, 128).photo(picture).shape[:2] == (192, 192)


def test_pictures_of_several_shapes_are_embedded_in_their_order():
    torch.manual_seed(0)
    embedder = TorchEmbedder(
        EmbeddingNetwork(dimension=16).eval(), "v1", Framing(64, 48, keep_aspect=True)
    )
    shown = [picture for wide in pictures(3) for picture in (wide, np.rot90(wide))]
    for embed in (embedder.embed, embedder.embed_references):
        together = embed(shown).vectors
        for picture, vector in zip(shown, together, strict=True):
            assert embed([picture]).vectors[0] == pytest.approx(vector, abs=1e-4)


def test_no_pictures_embed_to_no_vectors(embedder):
    assert embedder.embed([]).vectors.shape == (0, 16)


def test_resnet18_is_a_backbone_too():
    batch = as_batch(torch.zeros((2, 64, 64, 3), dtype=torch.uint8))
    assert EmbeddingNetwork("resnet18", dimension=8).eval()(batch).shape == (2, 8)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="no_such_net"):
        EmbeddingNetwork("no_such_net")


def test_a_batch_is_normalised_and_channels_last():
    grey = np.full((10, 20, 3), 124, np.uint8)
    batch = as_batch(torch.from_numpy(Framing(32, 32).photo(grey)[None]))
    assert batch.shape == (1, 3, 32, 32)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch[0, 0].mean().item() == pytest.approx((124 / 255 - 0.485) / 0.229, abs=1e-5)
