import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model

from indexing.backbones import IMAGENET_MEAN, IMAGENET_STD
from indexing.framing import Framing
from indexing.network import (
    UNIT_SQUARE,
    EmbeddingNetwork,
    SpatialTransformer,
    TorchEmbedder,
    load_network,
)


@pytest.mark.parametrize(
    ("architecture", "side"),
    [
        ("mobilenet_v3_small", 64),
        ("resnet18", 64),
        ("efficientnet_b0", 64),
        ("efficientnet_lite0", 64),
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
    network = EmbeddingNetwork(dimension=8, straightened_size=36).eval()
    rough, _ = network.warp.guesses(torch.randn(2, 3, 64, 64))
    assert torch.equal(rough, torch.tensor(UNIT_SQUARE).expand(2, 4, 2))


def test_a_network_with_a_spatial_transformer_is_loaded_as_it_was():
    network = EmbeddingNetwork(dimension=8, straightened_size=36).eval()
    state = {name: values.numpy() for name, values in network.state_dict().items()}
    again = load_network("mobilenet_v3_small", 8, state, straightened_size=36)
    pictures = [np.full((50, 40, 3), 90, np.uint8)]
    one, other = (
        TorchEmbedder(each, "v", Framing(64, 36)).embed(pictures).vectors
        for each in (network, again)
    )
    assert np.allclose(one, other, atol=1e-5)
    # Batch normalisation is part of the convolutions by now.
    assert not any(isinstance(part, nn.BatchNorm2d) for part in again.features.modules())


def test_a_reference_is_embedded_as_it_is_whatever_is_found_in_it():
    torch.manual_seed(2)
    network = EmbeddingNetwork(dimension=8, straightened_size=36)
    embedder = TorchEmbedder(network, "v", Framing(64, 36))
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
    straight = SpatialTransformer(64).straightened(batch, quad)[0].permute(1, 2, 0).numpy()
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


def test_weights_of_efficientnet_lite_are_loaded_whatever_their_names(tmp_path):
    model = get_model("efficientnet_b0", weights=None)
    lite = {
        f"_{number}": torch.rand_like(values) if values.is_floating_point() else values
        for number, (name, values) in enumerate(model.state_dict().items())
        if ".fc" not in name
    }
    torch.save(lite, tmp_path / "lite0.pth")
    network = EmbeddingNetwork("efficientnet_lite0", 8, weights=str(tmp_path / "lite0.pth")).eval()
    (first, normalised, _), stored = network.features[0], list(lite.values())
    picture = torch.rand(1, 3, 16, 16)
    as_torchvision = (picture - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(
        IMAGENET_STD
    )[:, None, None]
    # What its weights were trained with: levels of 0 to 255, less 127, by 128.
    convolved = torch.nn.functional.conv2d(
        (255 * picture - 127) / 128, stored[0], stride=2, padding=1
    )
    expected = torch.nn.functional.batch_norm(
        convolved, stored[3], stored[4], stored[1], stored[2], eps=1e-3
    )
    # Not at the border, which is padded with what each takes for a mean level.
    found = normalised(first(as_torchvision))
    assert torch.allclose(found[:, :, 1:, 1:], expected[:, :, 1:, 1:], atol=1e-3)


def test_weights_that_are_not_of_efficientnet_lite_are_refused(tmp_path):
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(RuntimeError, match="no weights of efficientnet_lite0"):
        EmbeddingNetwork("efficientnet_lite0", weights=str(tmp_path / "weights.pth"))
    with pytest.raises(ValueError, match="'NONE' are no weights of efficientnet_lite0"):
        EmbeddingNetwork("efficientnet_lite0", weights="NONE")
