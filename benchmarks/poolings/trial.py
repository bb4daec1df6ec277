"""One pooling put to the test: trained on bags whose truth is known, and scored."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.poolings.bags import Bags
from lymphoml.core.seeding import keyed_seed
from lymphoml.evaluation.intervals import delong
from lymphoml.models.build import build

HIDDEN = 64
LEARNING_RATE = 3e-3


class Effort(NamedTuple):
    """How long a trial trains, and on what: bags of training and of the test, steps, bags each."""

    bags: int = 1000
    tested: int = 500
    steps: int = 600
    batch: int = 32


class Result(NamedTuple):
    """AUROCs: of bags drawn as in training, of the test's, and of the instances of those."""

    learned: float
    tested: float
    instances: float | None  # None where the pooling tells nothing of single instances


def try_pooling(
    pooling: dict[str, Any],
    draw: Callable[[int, bool, int], Bags],
    seed: int,
    effort: Effort,
) -> Result:
    """Train a small network that pools as `pooling`, a specification for `build`, says.

    An instance goes through one hidden layer; a linear layer judges the bag, but where the pooling
    gives a logit already. `draw` gives a number of bags, of training or test, by a seed.
    """
    training = draw(effort.bags, True, keyed_seed(seed, "training"))
    torch.manual_seed(keyed_seed(seed, "weights") % 2**32)
    encoder = nn.Sequential(nn.Linear(training.instances.shape[1], HIDDEN), nn.ReLU())
    made = build(pooling, HIDDEN)
    fusion = build({"_target_": "lymphoml.models.fusion.NoClinical"}, made.dim, 0)
    model = build({"_target_": "lymphoml.models.mil.MILModel"}, encoder, made, fusion)
    _train(model, training, effort)
    likewise, test = (draw(effort.tested, kind, keyed_seed(seed, "test")) for kind in (True, False))
    with torch.no_grad():
        learned, tested = (_auroc(bags.label, _judge(model, bags)) for bags in (likewise, test))
        return Result(learned, tested, _find_instances(model, test))


def _train(model: nn.Module, bags: Bags, effort: Effort) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    each = bags.instances.split(bags.lengths.tolist())
    model.train()
    for _ in range(effort.steps):
        chosen = torch.randperm(len(each))[: effort.batch]
        part = bags._replace(
            instances=torch.cat([each[i] for i in chosen.tolist()]), lengths=bags.lengths[chosen]
        )
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(_judge(model, part), bags.label[chosen]).backward()
        optimizer.step()
    model.eval()


def _judge(model: Any, bags: Bags) -> Tensor:
    no_clinical = torch.empty(len(bags.lengths), 0)
    return model.classify(model.encoder(bags.instances), bags.lengths, no_clinical)


def _find_instances(model: Any, bags: Bags) -> float | None:
    """The mean AUROC, within positive bags, of weights or scores against the instances' truth."""
    pooling, features = model.pooling, model.encoder(bags.instances)
    if hasattr(pooling, "weights"):
        told = pooling.weights(features, bags.lengths)
    elif hasattr(pooling, "score"):
        told = pooling.score(features)
    else:
        return None
    lengths = bags.lengths.tolist()
    pairs = zip(bags.truth.split(lengths), told.split(lengths), strict=True)
    found = [_auroc(truth, weights) for truth, weights in pairs if 0 < truth.mean() < 1]
    return sum(found) / len(found)


def _auroc(label: Tensor, told: Tensor) -> float:
    return delong(label.numpy(), told.numpy())[0]
