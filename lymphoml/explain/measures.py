"""Which measures moved a logit that is linear in the pooled features of a bag."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage

from lymphoml.core.errors import InputError
from lymphoml.features.morphology import NAMES
from lymphoml.models.encoders import FeatureEncoder
from lymphoml.models.fusion.fitted import LateFusion
from lymphoml.models.fusion.trained import Concat, NoClinical
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.statistics import Mean, MeanStd

CUT = 0.7  # 1 - |correlation| below which measures are one group, average linkage
Array = np.ndarray


class LinearModel(NamedTuple):
    """logit = weights (e) of the bag + clinical weights (k) of the clinical values + bias."""

    weights: Float[Array, " e"]
    clinical: Float[Array, " k"]
    columns: list[str]  # "mean NAME" or "spread NAME" of each number of the bag


def linear_model(model: MILModel, names: Sequence[str]) -> LinearModel:
    """Return the weights of a model whose images' part is linear in means and spreads of `names`.

    Raises InputError for other models.
    """
    fusion: Any = model.fusion
    statistics = {Mean: ["mean"], MeanStd: ["mean", "spread"]}.get(type(model.pooling))
    encoder: Any = model.encoder
    if statistics is None or not isinstance(encoder, FeatureEncoder) or len(encoder.layers):
        raise InputError(
            "methods: measures needs model/encoder=identity and model/pooling=mean or mean_std, "
            "whose logit is linear in the measures; leave it out"
        )
    columns = [f"{statistic} {name}" for statistic in statistics for name in names]
    if isinstance(fusion, Concat):
        weight = fusion.both.weight[0].detach().double().numpy()
        image, clinical = weight[: len(columns)], weight[len(columns) :] * fusion.clinical_scale
    elif isinstance(fusion, LateFusion | NoClinical):
        layer: Any = fusion.image
        image = layer.weight[0].detach().double().numpy()
        part: Any = getattr(fusion, "clinical", None)
        clinical = part.weight[0].detach().double().numpy() if part is not None else np.zeros(0)
    else:
        raise InputError(
            f"methods: measures needs a fusion that adds, not {type(fusion).__name__}; leave it out"
        )
    return LinearModel(image, clinical, columns)


def contributions(
    linear: LinearModel, bag: Float[Array, " e"], clinical: Float[Array, " k"],
    mean_bag: Float[Array, " e"], mean_clinical: Float[Array, " k"],
) -> tuple[Float[Array, " e"], Float[Array, " k"]]:  # fmt: skip
    """Return weight times (value less the training patients' mean) of each number, in logits.

    Exact: their sum is the patient's logit less that at the training patients' means.
    """
    of_bag = linear.weights * (bag - mean_bag)
    return of_bag, linear.clinical * (clinical - mean_clinical)[: len(linear.clinical)]


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


def sum_groups(groups: Sequence[str], values: Float[Array, " e"]) -> pd.Series:
    """Return the summed contribution of each group, the largest first."""
    sums = pd.Series(values).groupby(list(groups)).sum()
    return sums.reindex(sums.abs().sort_values(ascending=False, kind="stable").index)


@torch.no_grad()
def pooled(model: MILModel, features: torch.Tensor) -> Float[Array, " e"]:
    """Return the pooled bag of encoded images (n d)."""
    bag: Any = model.pool(features, torch.tensor([len(features)]))
    return bag[0].double().cpu().numpy()
