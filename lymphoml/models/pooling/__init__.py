"""Poolings: from the features of all instances (n d) to one vector a bag (b, its own `dim`).

In the equations, `h_1 ... h_N` are the features of one bag and `z` is its pooled vector. A pooling
ignores the order of the instances, the other bags of the batch and, except for `NoisyOr`, the size
of the bag: repeating every instance changes nothing, because bag size alone predicts the label in
the paper's cohort.

A pooling of `dim` 1 works on scores: its z is a logit already. Instances are explained by
`weights`, which sum to one over a bag, or by `score`, one logit an instance.
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
