"""An average with weights that do not compete."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import batch_norm, logsigmoid

from lymphoml.nn.segments import at_least_single, segment_softmax, segment_sum


class SigmoidMean(nn.Module):
    """z = sum_k a_k h_k / sum_k a_k with a_k = sigmoid(BN(w^T h_k)).

    Several instances can count in full, where a softmax makes them compete. No paper is followed:
    the equation is the source. BN is a batch normalisation of the one score: in training that of
    all instances of the batch, so that here batch mates count, in evaluation that of running
    statistics. A batch of a single instance is normalised by the latter: its weight cancels.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.w = nn.Linear(dim, 1, bias=False)
        self.norm = nn.BatchNorm1d(1)

    def forward(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        weights = self.weights(features, lengths).unsqueeze(1)
        return segment_sum(weights * features, lengths)

    def weights(
        self, features: Float[Tensor, "n d"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, " n"]:
        """What each instance counts; those of a bag sum to one."""
        # The softmax of log a_k is a_k / sum a_k, and stays finite where all a_k vanish.
        return segment_softmax(logsigmoid(self.score(features)), lengths)

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """What the sigmoid is taken of."""
        norm, score = self.norm, at_least_single(self.w(features))
        if len(features) > 1:
            return norm(score).squeeze(1)
        return batch_norm(
            score, norm.running_mean, norm.running_var, norm.weight, norm.bias
        ).squeeze(1)
