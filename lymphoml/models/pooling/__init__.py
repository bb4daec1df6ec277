"""Poolings: from the features of all instances (n d) to one vector a bag (b, its own `dim`).

In the equations, `h_1 ... h_N` are the features of one bag and `z` is its pooled vector. A pooling
ignores the order of the instances, the other bags of the batch and, except for `NoisyOr`, the size
of the bag, which alone predicts the label in the paper's cohort. With a `dim` of 1, z is a logit
already. `weights` (sum one over a bag) or `score` (a logit each) explain the instances.
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
