"""Poolings: from the features of all instances (n d) to one vector a bag (b, its own `dim`).

`h_1 ... h_N` are the features of one bag, `z` its pooled vector. A pooling ignores the order of
the instances, the other bags of the batch, and, unless its name says otherwise, the size of the
bag: doubling every instance changes nothing, since bag size alone tells the label apart in this
cohort.

A pooling of `dim` 1 works on scores: its z is a logit already. What a pooling has learned of the
single instances is told by `weights`, those of a bag adding up to one, or by `score`, one logit an
instance.
"""

from lymphoml.models.pooling.attention import (
    Attention,
    GatedAttention,
    MultiheadAttention,
    SigmoidWeightedMean,
)
from lymphoml.models.pooling.instance_scores import (
    DSMIL,
    ChowderPooling,
    NoisyOr,
    NoisyOrMean,
    TopFractionPooling,
)
from lymphoml.models.pooling.statistics import Distribution, LogSumExp, Max, Mean, MeanStd

__all__ = [
    "DSMIL",
    "Attention",
    "ChowderPooling",
    "Distribution",
    "GatedAttention",
    "LogSumExp",
    "Max",
    "Mean",
    "MeanStd",
    "MultiheadAttention",
    "NoisyOr",
    "NoisyOrMean",
    "SigmoidWeightedMean",
    "TopFractionPooling",
]
