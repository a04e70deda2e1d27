import cv2
import numpy as np
import pytest
import torch
from torchvision.models import get_model

from indexing.network import (
    UNIT_SQUARE,
    Embedder,
    EmbeddingNetwork,
    SpatialTransformer,
    load_network,
)


@pytest.mark.parametrize(
    ("architecture", "side"),
    [
        ("mobilenet_v3_small", 64),
        ("resnet18", 64),
        ("efficientnet_b0", 64),
        ("vgg11", 64),
        ("vit_b_16", 224),
    ],
)
def test_every_kind_of_backbone_embeds_and_learns(architecture, side):
    network = EmbeddingNetwork(architecture, 8).train()
    vectors = network(torch.randn(2, 3, side, side))
    assert vectors.shape == (2, 8)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    vectors[:, 0].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.features.parameters())
    assert len(network.blocks()) > 4


def test_blocks_are_all_that_learns_in_the_backbone():
    network = EmbeddingNetwork("resnet18", 8)
    in_blocks = {id(p) for block in network.blocks() for p in block.parameters()}
    assert in_blocks == {id(p) for p in network.features.parameters()}


@pytest.mark.parametrize("name", ["alexnet_9", "raft_small"])
def test_what_is_no_backbone_is_refused(name):
    with pytest.raises(ValueError, match=name):
        EmbeddingNetwork(name)


def test_a_spatial_transformer_begins_by_looking_at_the_whole_photo():
    torch.manual_seed(1)
    network = EmbeddingNetwork(dimension=8, spatial_transformer=True).eval()
    rough, _ = network.warp.guesses(torch.randn(2, 3, 64, 64))
    assert torch.equal(rough, torch.tensor(UNIT_SQUARE).expand(2, 4, 2))


def test_a_network_with_a_spatial_transformer_is_loaded_as_it_was():
    network = EmbeddingNetwork(dimension=8, spatial_transformer=True).eval()
    state = {name: values.numpy() for name, values in network.state_dict().items()}
    again = load_network("mobilenet_v3_small", 8, state, spatial_transformer=True)
    pictures = [np.full((50, 40, 3), 90, np.uint8)]
    one, other = (Embedder(each, "v", 64).embed(pictures).vectors for each in (network, again))
    assert np.array_equal(one, other)


def test_a_reference_is_embedded_as_it_is_whatever_is_found_in_it():
    torch.manual_seed(2)
    network = EmbeddingNetwork(dimension=8, spatial_transformer=True)
    embedder = Embedder(network, "v", 64)
    picture = [np.random.default_rng(1).integers(0, 256, (50, 40, 3), np.uint8)]
    reference, photo = embedder.embed_references(picture).vectors, embedder.embed(picture).vectors
    network.warp.precise.corners[-1].bias.data += 0.2
    assert np.array_equal(embedder.embed_references(picture).vectors, reference)
    assert not np.array_equal(embedder.embed(picture).vectors, photo)


def test_a_quad_is_cut_out_and_straightened():
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    picture = cv2.resize(picture, (112, 112), interpolation=cv2.INTER_CUBIC)
    turned = np.rot90(cv2.resize(picture, (56, 56), interpolation=cv2.INTER_AREA))
    photo = np.full((112, 112, 3), 255, np.uint8)
    photo[28:84, 42:98] = turned
    left, top, right, bottom = 42 / 112, 28 / 112, 98 / 112, 84 / 112
    # Its top left is at the bottom left, now that it is turned to the left.
    quad = torch.tensor([[(left, bottom), (left, top), (right, top), (right, bottom)]])
    batch = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    straight = SpatialTransformer().straightened(batch, quad)[0].permute(1, 2, 0).numpy()
    assert np.abs(straight - cv2.resize(picture, (64, 64))).mean() < 10


def test_pretrained_weights_come_from_a_file(tmp_path):
    model = get_model("resnet18", weights=None)
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    network = EmbeddingNetwork("resnet18", 8, weights=str(tmp_path / "resnet18.pth"))
    assert torch.equal(network.features[0].weight, model.conv1.weight)


def test_weights_of_another_backbone_are_refused(tmp_path):
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(RuntimeError, match="state_dict"):
        EmbeddingNetwork("vgg11", 8, weights=str(tmp_path / "weights.pth"))
