"""An average with learned weights, scored by a gated network."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.nn.pooling.attention import Attention


class GatedAttention(Attention):
    """z = sum_k a_k h_k with a_k = softmax_k(w^T (tanh(V h_k^T) * sigmoid(U h_k^T))).

    Ilse, Tomczak and Welling 2018, equations 7 and 9: the gate lets the score leave the nearly
    linear middle of tanh. `hidden` is the number of rows of V and of U.
    """

    def __init__(self, dim: int, hidden: int = 128):
        super().__init__(dim, hidden)
        self.u = nn.Linear(dim, hidden, bias=False)

    def score(self, features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        gated = torch.tanh(self.v(features)) * torch.sigmoid(self.u(features))
        return self.w(gated).squeeze(1)
