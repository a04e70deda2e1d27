import pytest
import torch
from torch.nn.functional import normalize

from training.losses import InfoNCE, LossName, Sampling, loss_named, miner_named, spread


def batch(things=12, dimension=8, spread_of_a_thing=0.4):
    torch.manual_seed(3)
    centres = torch.randn(things, dimension).repeat(2, 1)
    vectors = normalize(centres + spread_of_a_thing * torch.randn_like(centres), dim=1)
    return vectors, torch.arange(things).repeat(2)


def distances(vectors, triplets):
    anchors, positives, negatives = (vectors[rows] for rows in triplets)
    return (anchors - positives).norm(dim=1), (anchors - negatives).norm(dim=1)


@pytest.mark.parametrize("name", LossName)
@pytest.mark.parametrize("sampling", Sampling)
def test_every_loss_learns_with_every_sampling(name, sampling):
    vectors, labels = batch(spread_of_a_thing=1.0)
    free = vectors.clone().requires_grad_()
    loss, mine = loss_named(name, 0.4, 0.1), miner_named(sampling, 0.4)
    optimizer = torch.optim.Adam([free], 0.02)
    values = []
    for _ in range(60):
        unit = normalize(free, dim=1)
        value = loss(unit, labels, mine(unit, labels))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert of_own(normalize(free, dim=1)) > of_own(vectors)


def of_own(vectors):
    references, photos = vectors.detach().chunk(2)
    return float((references * photos).sum(dim=1).mean())


def test_info_nce_compares_photos_with_references_alone():
    references = torch.eye(4)
    labels = torch.arange(4).repeat(2)
    # Two photos that look alike are as good as two that do not.
    alike = normalize(
        references + torch.ones(4) * torch.tensor([[1.0], [1.0], [0.0], [0.0]]), dim=1
    )
    loss = InfoNCE(0.1)
    expected = torch.nn.functional.cross_entropy(alike @ references.T / 0.1, torch.arange(4))
    back = torch.nn.functional.cross_entropy(references @ alike.T / 0.1, torch.arange(4))
    assert torch.isclose(loss(torch.cat([references, alike]), labels), (expected + back) / 2)


def test_triplets_are_of_two_pictures_of_one_thing_and_one_of_another():
    vectors, labels = batch()
    for sampling in set(Sampling) - {Sampling.ALL}:
        anchors, positives, negatives = miner_named(sampling, 0.5)(vectors, labels)
        assert len(anchors)
        assert (labels[anchors] == labels[positives]).all()
        assert (labels[anchors] != labels[negatives]).all()


def test_semi_hard_negatives_are_farther_than_the_positive_within_the_margin():
    vectors, labels = batch()
    own, other = distances(vectors, miner_named(Sampling.SEMI_HARD, 0.3)(vectors, labels))
    assert (other > own).all()
    assert (other < own + 0.3).all()


def test_batch_hard_negatives_are_the_nearest_of_their_anchor():
    vectors, labels = batch()
    triplets = miner_named(Sampling.BATCH_HARD, 0.3)(vectors, labels)
    _, other = distances(vectors, triplets)
    apart = torch.cdist(vectors, vectors) + 9.0 * (labels[:, None] == labels[None])
    assert torch.allclose(other, apart[triplets[0]].min(dim=1).values, atol=1e-5)


def test_uniform_sampling_takes_one_negative_of_each_pair():
    vectors, labels = batch()
    anchors, _, negatives = miner_named(Sampling.UNIFORM, 0.3)(vectors, labels)
    assert len(anchors) == len(labels)
    assert len(set(negatives.tolist())) > 3


def test_scores_that_are_spread_cost_nothing():
    _, labels = batch(things=4)
    apart = torch.eye(8)
    assert spread(apart, labels) == 0
    together = normalize(torch.eye(8) + 1, dim=1)
    assert spread(together, labels) > 0.1
