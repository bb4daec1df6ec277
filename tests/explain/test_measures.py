"""Contributions of measures: exact where the model is linear, else Shapley values with an error."""

from itertools import permutations

import numpy as np
import pytest
import torch

from lymphoml.explain.measures import contributions, describe, is_linear, linear_model, shapley
from lymphoml.models.encoders import FeatureEncoder
from lymphoml.models.fusion.trained import Concat, MixtureOfExperts, NoClinical
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.attention import Attention
from lymphoml.models.pooling.statistics import Mean, MeanStd

CLINICAL, MEAN_CLINICAL = torch.tensor([0.3, -1.2]), np.array([0.1, 0.4])


def model(pooling=Mean, fusion=Concat, hidden=()):
    torch.manual_seed(0)
    encoder = FeatureEncoder(hidden, feature_dim=4)
    pooled = pooling(encoder.dim)
    return MILModel(encoder, pooled, fusion(pooled.dim, 2)).eval()


def bag(network, images=6):
    """Vectors of a bag, the mean bag of others, and the group of each of its columns."""
    vectors = torch.randn(images, 4, generator=torch.Generator().manual_seed(1))
    mean = np.linspace(-1, 1, len(describe(network, vectors)))
    return vectors, mean, [f"group {number % 3}" for number in range(len(mean))]


@pytest.mark.parametrize("fusion", [Concat, NoClinical])
@pytest.mark.parametrize("pooling", [Mean, MeanStd])
def test_shapley_values_of_a_linear_model_are_the_exact_contributions(pooling, fusion):
    network = model(pooling, fusion)
    vectors, mean, groups = bag(network)
    assert is_linear(network)
    exact, of_clinical = contributions(
        linear_model(network), describe(network, vectors), CLINICAL.double().numpy(), mean,
        MEAN_CLINICAL, groups,
    )  # fmt: skip
    table, rest = shapley(network, vectors, CLINICAL, mean, MEAN_CLINICAL, groups, seed=0)
    assert np.allclose(table.loc[exact.index], exact, rtol=0, atol=1e-5)
    assert np.allclose(rest, of_clinical, rtol=0, atol=1e-5)


def every_order(network, vectors, mean, groups):
    """Shapley values over all orders of groups and clinical values, from whole bags."""
    names = sorted(set(groups))
    columns = [np.flatnonzero([group == name for group in groups]) for name in names]
    players = len(names) + 2

    def logit(present):
        filled = torch.from_numpy(mean).float().repeat(len(vectors), 1)
        for player in present:
            if player < len(names):
                filled[:, columns[player]] = vectors[:, columns[player]]
        clinical = torch.from_numpy(MEAN_CLINICAL).float()
        for player in present:
            if player >= len(names):
                clinical[player - len(names)] = CLINICAL[player - len(names)]
        with torch.no_grad():
            return float(network(filled, torch.tensor([len(vectors)]), clinical.unsqueeze(0)))

    orders = [*permutations(range(players))]
    values, known = np.zeros(players), {}
    for order in orders:
        for place, player in enumerate(order):
            before, after = frozenset(order[:place]), frozenset(order[: place + 1])
            for present in (before, after):
                known[present] = known.get(present) or logit(present)
            values[player] += known[after] - known[before]
    return values / len(orders), known[frozenset(range(players))] - known[frozenset()]


@pytest.mark.parametrize(("pooling", "fusion", "hidden"), [
    (Mean, Concat, (5,)), (Attention, MixtureOfExperts, (5,)),
])  # fmt: skip
def test_the_error_covers_the_shapley_values_of_all_orders(pooling, fusion, hidden):
    network = model(pooling, fusion, hidden)
    vectors, mean, groups = bag(network)
    vectors = vectors * 3
    assert not is_linear(network)
    table, rest = shapley(network, vectors, CLINICAL, mean, MEAN_CLINICAL, groups, seed=0)
    found = np.concatenate([table.sort_index(), rest])
    truth, total = every_order(network, vectors, mean, groups)
    assert (np.abs(found[:, 0] - truth) <= 3 * found[:, 1] + 1e-5).all()
    assert found[:, 1].max() > 1e-3  # there is something to be uncertain of
    assert found[:, 0].sum() == pytest.approx(total, abs=1e-5)
    again, _ = shapley(network, vectors, CLINICAL, mean, MEAN_CLINICAL, groups, seed=0)
    assert again.equals(table)
