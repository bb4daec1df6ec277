"""Poolings: from the features of all instances (n d) to one vector a bag (b, its own `dim`).

`h_1 ... h_N` are the features of one bag, `z` its pooled vector. A pooling ignores the order of
the instances, the other bags of the batch, and, unless its name says otherwise, the size of the
bag: doubling every instance changes nothing, since bag size alone tells the label apart in this
cohort.

A pooling of `dim` 1 works on scores: its z is a logit already. What a pooling has learned of the
single instances is told by `weights`, those of a bag adding up to one, or by `score`, one logit an
instance.
"""

from lymphoml.nn.pooling.attention import Attention
from lymphoml.nn.pooling.chowder import Chowder
from lymphoml.nn.pooling.distribution import Distribution
from lymphoml.nn.pooling.dsmil import DSMIL
from lymphoml.nn.pooling.gated_attention import GatedAttention
from lymphoml.nn.pooling.logsumexp import LogSumExp
from lymphoml.nn.pooling.max import Max
from lymphoml.nn.pooling.mean import Mean
from lymphoml.nn.pooling.mean_and_spread import MeanAndSpread
from lymphoml.nn.pooling.multihead_attention import MultiheadAttention
from lymphoml.nn.pooling.noisy_or import NoisyOr, NoisyOrSeesSize
from lymphoml.nn.pooling.sigmoid_mean import SigmoidMean
from lymphoml.nn.pooling.top_share import TopShare

__all__ = [
    "DSMIL",
    "Attention",
    "Chowder",
    "Distribution",
    "GatedAttention",
    "LogSumExp",
    "Max",
    "Mean",
    "MeanAndSpread",
    "MultiheadAttention",
    "NoisyOr",
    "NoisyOrSeesSize",
    "SigmoidMean",
    "TopShare",
]
