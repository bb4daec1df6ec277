"""The equations of the poolings' docstrings for one bag in double, an instance at a time."""

import math
from fractions import Fraction

import torch
from torch import Tensor, nn

Bag = list[Tensor]


def weighted(weights: list[float], bag: Bag) -> Tensor:
    return sum(weight / sum(weights) * h for weight, h in zip(weights, bag, strict=True))


def mean(pooling: nn.Module, bag: Bag) -> Tensor:
    return sum(bag) / len(bag)


def maximum(pooling: nn.Module, bag: Bag) -> Tensor:
    return torch.tensor([max(h[i].item() for h in bag) for i in range(len(bag[0]))]).double()


def logsumexp(pooling: nn.Module, bag: Bag) -> Tensor:
    return (sum((pooling.r * h).exp() for h in bag) / len(bag)).log() / pooling.r


def attention(pooling: nn.Module, bag: Bag) -> Tensor:
    v, w = pooling.v.weight, pooling.w.weight[0]
    return weighted([math.exp(w @ (v @ h).tanh()) for h in bag], bag)


def gated_attention(pooling: nn.Module, bag: Bag) -> Tensor:
    v, u, w = pooling.v.weight, pooling.u.weight, pooling.w.weight[0]
    gated = [(v @ h).tanh() / (1 + (-u @ h).exp()) for h in bag]
    return weighted([math.exp(w @ each) for each in gated], bag)


def multihead_attention(pooling: nn.Module, bag: Bag) -> Tensor:
    heads, e = pooling.token.shape
    found = []
    for j in range(heads):
        rows = slice(j * e, (j + 1) * e)
        keys = [pooling.key.weight[rows] @ h for h in bag]
        values = [pooling.value.weight[rows] @ h + pooling.value.bias[rows] for h in bag]
        found.append(
            weighted([math.exp(pooling.token[j] @ key / math.sqrt(e)) for key in keys], values)
        )
    return pooling.out.weight @ torch.cat(found) + pooling.out.bias


def scores(pooling: nn.Module, bag: Bag) -> list[float]:
    return [float(pooling.w.weight[0] @ h + pooling.w.bias) for h in bag]


def noisy_or(pooling: nn.Module, bag: Bag, power: float = 1.0) -> Tensor:
    negative = math.prod(1 / (1 + math.exp(s)) for s in scores(pooling, bag)) ** power
    return torch.tensor([math.log((1 - negative) / negative)]).double()


def noisy_or_mean(pooling: nn.Module, bag: Bag) -> Tensor:
    return noisy_or(pooling, bag, 1 / len(bag))


def top_fraction(pooling: nn.Module, bag: Bag) -> Tensor:
    """Every score ten times over, of which the highest tenth is a whole number of scores."""
    assert pooling.fraction == 0.1
    ranked = sorted(10 * scores(pooling, bag), reverse=True)[: len(bag)]
    return torch.tensor([sum(ranked) / len(bag)]).double()


def max_score(pooling: nn.Module, bag: Bag) -> Tensor:
    return torch.tensor([max(scores(pooling, bag))]).double()


def quantile(values: list[float], level: Fraction) -> float:
    """The smallest value that at least a share `level` does not exceed, in exact arithmetic."""
    return min(v for v in values if Fraction(sum(u <= v for u in values), len(values)) >= level)


def chowder(pooling: nn.Module, bag: Bag) -> Tensor:
    """The middles of five parts of a fifth of the bag, from either end."""
    low = [Fraction(2 * i + 1, 50) for i in range(5)]
    levels = low + [1 - level for level in reversed(low)]
    return torch.tensor([quantile(scores(pooling, bag), level) for level in levels]).double()


def dsmil(pooling: nn.Module, bag: Bag) -> Tensor:
    own = scores(pooling, bag)
    queries = [pooling.q.weight @ h + pooling.q.bias for h in bag]
    critical = queries[own.index(max(own))]
    alike = [math.exp(q @ critical / math.sqrt(len(q))) for q in queries]
    return torch.cat([weighted(alike, bag), torch.tensor([max(own)]).double()])


def sigmoid_weighted_mean(pooling: nn.Module, bag: Bag) -> Tensor:
    norm = pooling.norm
    normal = [(pooling.w.weight[0] @ h - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
              for h in bag]  # fmt: skip
    return weighted([1 / (1 + math.exp(-norm.weight * s - norm.bias)) for s in normal], bag)


def mean_std(pooling: nn.Module, bag: Bag) -> Tensor:
    average = sum(bag) / len(bag)
    variance = sum((h - average) ** 2 for h in bag) / len(bag)
    return torch.cat([average, (variance + 1e-4).sqrt()])


def distribution(pooling: nn.Module, bag: Bag) -> Tensor:
    average, std = mean_std(pooling, bag).chunk(2)
    quantiles = [
        quantile(values, level)
        for level in (Fraction(1, 10), Fraction(1, 2), Fraction(9, 10))
        for values in torch.stack(bag).T.tolist()
    ]
    return torch.cat([average, std.log(), torch.tensor(quantiles).double()])


ONE_BAG = {each.__name__: each for each in (
    mean, logsumexp, attention, gated_attention, multihead_attention, noisy_or, noisy_or_mean,
    top_fraction, max_score, chowder, dsmil, sigmoid_weighted_mean, distribution, mean_std,
)} | {"max": maximum}  # fmt: skip
