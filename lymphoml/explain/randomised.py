"""Do explanations depend on what was learned? Adebayo et al. 2018: randomise a model step by step.

"Sanity Checks for Saliency Maps", cascading: new initial weights from the last module to the first.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import nn

from lymphoml.core.seeding import keyed_generator, keyed_seed
from lymphoml.explain.bag import Bag, effects
from lymphoml.models.mil import MILModel

IMAGES = 16  # of a patient, where they are pixels
OCCLUDED = 2  # of these


def cascade(model: MILModel, *key: int | str) -> Iterator[tuple[str, MILModel]]:
    """Yield the name of each module, last to first, and the model with new weights down to it."""
    twin = copy.deepcopy(model)
    for name, modules in _steps(twin):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_seed("cascade", *key, name))
            for module in modules:
                _reset(module)
        yield name, twin


def _steps(model: Any) -> Iterator[tuple[str, list[nn.Module]]]:
    """Yield the modules with weights, last to first; a norm goes with what it follows."""
    yield "fusion", [model.fusion]
    if _has_weights(model.pooling):
        yield "pooling", [model.pooling]
    outer, name = model.encoder, "encoder"
    while len(children := [each for each in outer.named_children() if _has_weights(each[1])]) == 1:
        name, outer = f"{name}.{children[0][0]}", children[0][1]
    steps: list[tuple[str, list[nn.Module]]] = []
    group: list[nn.Module] = []
    for child, module in reversed(children):
        group.append(module)
        if any(weights.ndim > 1 for weights in module.parameters()):
            steps.append((f"{name}.{child}", group))
            group = []
    if _has_weights(model.encoder):  # the last of them with what is in no module of its own
        yield from steps[:-1]
        yield steps[-1][0] if steps else name, [model.encoder]


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


@torch.no_grad()
def _reset(module: nn.Module) -> None:
    """Give each layer PyTorch's initial weights; numbers that have none are shuffled."""
    for layer in module.modules():
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
            continue
        for weights in layer.parameters(recurse=False):
            weights.copy_(weights.flatten()[torch.randperm(weights.numel())].view_as(weights))


def part_of(bag: Bag) -> Bag:
    """Return a bag of few of a patient's images, drawn by a key; all where they are vectors."""
    if bag.images.ndim == 2 or len(bag.images) <= IMAGES:
        return bag
    drawn = keyed_generator("cascade", bag.patient).permutation(len(bag.images))[:IMAGES]
    return replace(bag, images=bag.images[torch.from_numpy(np.sort(drawn))])


def scores(bag: Bag, methods: Sequence[str]) -> dict[str, Float[np.ndarray, "r k"]]:
    """Return what each method says: of k images in one row, or of k places in each of r images."""
    occluded = range(min(OCCLUDED, len(bag.images)))
    return {
        method: values[None] if found is None else found.reshape(len(found), -1)
        for method, values, found in effects(bag, methods, occluded)
    }


def rank_correlation(one: Float[np.ndarray, "r k"], other: Float[np.ndarray, "r k"]) -> float:
    """Return Spearman's correlation, mean over rows; NaN where in each row one is constant."""
    ranks = (rankdata(np.nan_to_num(each), axis=1) for each in (one, other))
    a, b = (each - each.mean(axis=1, keepdims=True) for each in ranks)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    known = scale > 0
    return float(np.mean((a * b).sum(axis=1)[known] / scale[known])) if known.any() else np.nan
