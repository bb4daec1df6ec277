"""Two streams: the most suspicious instance, and the instances that resemble it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lymphoml.nn.pooling.scorer import Scorer
from lymphoml.nn.segments import at_least_single, segment_max, segment_softmax, segment_sum


class DSMIL(Scorer):
    """z = [sum_k a_k h_k, s_m] with m = argmax_k s_k and a_k = softmax_k(q_k^T q_m / √e).

    Li, Li and Eliceiri 2021, "Dual-stream Multiple Instance Learning Network", equations 2 to 5,
    with s_k = w^T h_k + b and q_k = Q h_k + c of e = `hidden` numbers. The paper scores the streams
    apart, averages them, and adds the first one's own loss; here both stand side by side, and the
    fusion weighs them.
    """

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__(dim)
        self.dim = dim + 1
        self.q = nn.Linear(dim, hidden)

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        highest = segment_max(self.score(features).unsqueeze(1), lengths)
        weights = self.weights(features, lengths).unsqueeze(1)
        return torch.cat([segment_sum(weights * features, lengths), highest], dim=1)

    def weights(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, " n"]:
        """How much each instance resembles the one of the highest score."""
        queries = at_least_single(self.q(features))
        scores = self.score(features).split(lengths.tolist())
        starts = (lengths.cumsum(0) - lengths).tolist()
        critical = torch.stack(
            [start + bag.argmax() for start, bag in zip(starts, scores, strict=True)]
        )
        owner = torch.repeat_interleave(critical, lengths.to(critical.device))
        alike = (queries * queries[owner]).sum(1) / queries.shape[1] ** 0.5
        return segment_softmax(alike, lengths)
