"""Which measures moved a logit: exact where it is linear in them, else Shapley values."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage

from lymphoml.core.types import Features
from lymphoml.explain.cells import MOST_NUMBERS
from lymphoml.features.morphology import NAMES
from lymphoml.models.encoders import FeatureEncoder
from lymphoml.models.fusion.fitted import LateFusion
from lymphoml.models.fusion.trained import Concat, NoClinical
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.statistics import Mean, MeanStd

CUT = 0.7  # 1 - |correlation| below which measures are one group, average linkage
PERMUTATIONS = 64  # of groups, for Shapley values
STATISTICS: dict[Any, list[str]] = {Mean: ["mean"], MeanStd: ["mean", "spread"]}  # by pooling
Array = np.ndarray


class LinearModel(NamedTuple):
    """logit = weights (e) of the bag + clinical weights (k) of the clinical values + bias."""

    weights: Float[Array, " e"]
    clinical: Float[Array, " k"]


def bag_columns(model: MILModel, names: Sequence[str]) -> list[str]:
    """Return what a bag is described by: means and spreads of `names` where the model pools these.

    Of another pooling, or behind an encoder that learns, `names`: each stands for all images.
    """
    return [f"{each} {name}" for each in _statistics(model) for name in names] or list(names)


def describe(model: MILModel, vectors: Features) -> Float[Array, " e"]:
    """Return the values of `bag_columns` of a bag's scaled vectors (n d)."""
    return _filled_in(model, vectors).mean(0).double().cpu().numpy()


def is_linear(model: MILModel) -> bool:
    """Return whether the logit is linear in the values of `bag_columns` and clinical values."""
    return bool(_statistics(model)) and isinstance(model.fusion, Concat | LateFusion | NoClinical)


def linear_model(model: MILModel) -> LinearModel:
    """Return the weights of a model that `is_linear`."""
    fusion: Any = model.fusion
    count = model.pooling.dim  # type: ignore[union-attr]
    if isinstance(fusion, Concat):
        weight = fusion.both.weight[0].detach().double().numpy()
        return LinearModel(weight[:count], weight[count:] * fusion.clinical_scale)
    part: Any = getattr(fusion, "clinical", None)
    clinical = part.weight[0].detach().double().numpy() if part is not None else np.zeros(0)
    return LinearModel(fusion.image.weight[0].detach().double().numpy(), clinical)


def _statistics(model: MILModel) -> list[str]:
    encoder: Any = model.encoder
    as_it_is = isinstance(encoder, FeatureEncoder) and not len(encoder.layers)
    return STATISTICS.get(type(model.pooling), []) if as_it_is else []


@torch.no_grad()
def _filled_in(model: MILModel, vectors: Features) -> Features:
    """Return what Shapley values put means into: the pooled bag (1 e), or all vectors (n d)."""
    if not _statistics(model):
        return vectors
    return model.pool(vectors, torch.tensor([len(vectors)]))  # type: ignore[return-value]


def contributions(
    linear: LinearModel, bag: Float[Array, " e"], clinical: Float[Array, " k"],
    mean_bag: Float[Array, " e"], mean_clinical: Float[Array, " k"], groups: Sequence[str],
) -> tuple[pd.DataFrame, Float[Array, "k 2"]]:  # fmt: skip
    """Return the sums of each group, and of each clinical value, in logits, their errors 0.

    Of weight times (value less the training patients' mean). Exact: all together are the patient's
    logit less that at the training patients' means.
    """
    of_bag = pd.Series(linear.weights * (bag - mean_bag)).groupby(list(groups)).sum()
    of_clinical = linear.clinical * (clinical - mean_clinical)[: len(linear.clinical)]
    table = pd.DataFrame({"contribution": of_bag, "error": 0.0})
    return table, np.stack([of_clinical, np.zeros(len(of_clinical))], axis=1)


def group_measures(columns: Sequence[str], bags: Float[Array, "p e"]) -> list[str]:
    """Return the group of each column, by correlation over these bags.

    Measures of cells by average linkage of 1 - |correlation|, cut at 0.7, since single ones cancel
    each other; a group bears the name of the member that is correlated most with the others. All
    features of an encoder are one group.
    """
    measured = [place for place, name in enumerate(columns) if name.split(" ")[-1] in NAMES]
    groups = ["network features" for _ in columns]
    if len(measured) < 2:
        return [columns[place] if place in measured else group
                for place, group in enumerate(groups)]  # fmt: skip
    values = bags[:, measured]
    varies = np.ptp(values, axis=0) > 0
    correlation = np.eye(len(measured))
    inside = np.ix_(varies, varies)
    correlation[inside] = np.abs(np.corrcoef(values[:, varies], rowvar=False))
    upper = np.triu_indices(len(measured), 1)
    labels = fcluster(linkage(1 - correlation[upper], "average"), CUT, "distance")
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        central = members[correlation[np.ix_(members, members)].sum(axis=1).argmax()]
        more = f" and {len(members) - 1} more" if len(members) > 1 else ""
        for member in members:
            groups[measured[member]] = f"{columns[measured[central]]}{more}"
    return groups


@torch.no_grad()
def shapley(
    model: MILModel, vectors: Features, clinical: Float[torch.Tensor, " k"],
    mean_bag: Float[Array, " e"], mean_clinical: Float[Array, " k"], groups: Sequence[str],
    seed: int,
) -> tuple[pd.DataFrame, Float[Array, "k 2"]]:  # fmt: skip
    """Return contribution and standard error of each group, and of each clinical value.

    What a group adds to the logit where the others are the patient's or the training patients'
    means, over PERMUTATIONS random orders (Castro et al. 2009): of any model, and of each order the
    sum is the patient's logit less that at the means. `vectors` (n d) are scaled. `seed` decides.
    """
    from captum.attr import ShapleyValueSampling

    names, group = np.unique(list(groups), return_inverse=True)
    values, means = _filled_in(model, vectors), torch.from_numpy(mean_bag).float()
    used = len(clinical) if model.fusion.uses_clinical else 0
    typical = torch.from_numpy(mean_clinical).float()[:used]

    def logits(present: torch.Tensor) -> torch.Tensor:
        kept = present.bool()
        bags = torch.where(kept[:, group].unsqueeze(1), values, means).flatten(0, 1)
        patients = torch.where(kept[:, len(names) :], clinical[:used], typical)
        if _statistics(model):
            return model.fusion(bags, patients)
        lengths = torch.full((len(kept),), len(values))
        return model.classify(model.embed(bags), lengths, patients)

    whole = torch.ones(1, len(names) + used)
    together = max(1, min(whole.numel(), MOST_NUMBERS // values.numel()))
    sampled = ShapleyValueSampling(logits)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        orders = torch.cat([
            sampled.attribute(whole, n_samples=1, perturbations_per_eval=together)
            for _ in range(PERMUTATIONS)
        ])  # fmt: skip
    error, mean = (each.double().numpy() for each in torch.std_mean(orders, 0))
    found = np.stack([mean, error / PERMUTATIONS**0.5], axis=1)
    table = pd.DataFrame(found[: len(names)], names, ["contribution", "error"])
    return table, found[len(names) :]
