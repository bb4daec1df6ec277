"""Train one pooling on bags with known instance labels, and score it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.mil_unit_tests.bags import Bags
from lymphoml.core.seeding import keyed_seed
from lymphoml.evaluation.intervals import delong
from lymphoml.models.build import build
from lymphoml.models.fusion import NoClinical
from lymphoml.models.mil import MILModel

HIDDEN = 64
LEARNING_RATE = 3e-3
LEARNED = 0.6  # an AUROC below this on bags drawn as in training means that nothing was learned


class Effort(NamedTuple):
    """How much a trial trains: bags of training and of the test, steps, bags a step."""

    bags: int = 1000
    test_bags: int = 500
    steps: int = 600
    batch: int = 32


class Result(NamedTuple):
    """AUROCs: of bags drawn as in training, of test bags, of instances within positive test bags.

    The last is None for poolings without weights or scores of instances.
    """

    as_training: float
    test: float
    instances: float | None

    def verdict(self) -> str:
        scores = f"{self.test:.2f} ({self.as_training:.2f})"
        if self.as_training < LEARNED:
            return f"not learned {scores}"
        return f"{'violates' if self.test < 0.5 else 'keeps'} {scores}"


def try_pooling(
    pooling: dict[str, Any], draw: Callable[[int, bool, int], Bags], seed: int, effort: Effort
) -> Result:
    """Return the result of a small network with `pooling`, a specification for `build`.

    An instance goes through one hidden layer; a linear layer classifies the bag, except where the
    pooling gives a logit already. `draw(count, training, seed)` returns bags.
    """
    training = draw(effort.bags, True, keyed_seed(seed, "training"))
    torch.manual_seed(keyed_seed(seed, "weights") % 2**32)
    encoder = nn.Sequential(nn.Linear(training.instances.shape[1], HIDDEN), nn.ReLU())
    built = build(pooling, HIDDEN)
    model = MILModel(encoder, built, NoClinical(built.dim, 0))
    _train(model, training, effort)
    test_seed = keyed_seed(seed, "test")
    as_training, test = (draw(effort.test_bags, kind, test_seed) for kind in (True, False))
    with torch.no_grad():
        return Result(
            _auroc(as_training.label, _logits(model, as_training)),
            _auroc(test.label, _logits(model, test)),
            _instance_auroc(model, test),
        )


def _train(model: MILModel, bags: Bags, effort: Effort) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    instances = bags.instances.split(bags.lengths.tolist())
    model.train()
    for _ in range(effort.steps):
        chosen = torch.randperm(len(instances))[: effort.batch]
        batch = bags._replace(
            instances=torch.cat([instances[i] for i in chosen.tolist()]),
            lengths=bags.lengths[chosen],
        )
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(_logits(model, batch), bags.label[chosen]).backward()
        optimizer.step()
    model.eval()


def _logits(model: MILModel, bags: Bags) -> Tensor:
    return model(bags.instances, bags.lengths, torch.empty(len(bags.lengths), 0))


def _instance_auroc(model: MILModel, bags: Bags) -> float | None:
    """Return the mean AUROC, within positive bags, of weights or scores for instance labels."""
    pooling: Any = model.pooling
    features = model.embed(bags.instances)
    if hasattr(pooling, "weights"):
        scores = pooling.weights(features, bags.lengths)
    elif hasattr(pooling, "score"):
        scores = pooling.score(features)
    else:
        return None
    lengths = bags.lengths.tolist()
    pairs = zip(bags.instance_label.split(lengths), scores.split(lengths), strict=True)
    aurocs = [_auroc(label, score) for label, score in pairs if 0 < label.mean() < 1]
    return sum(aurocs) / len(aurocs)


def _auroc(label: Tensor, score: Tensor) -> float:
    return delong(label.numpy(), score.numpy())[0]
