"""What the equations of the poolings do not show of segment reductions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphoml.models.segments import (
    segment_logmeanexp,
    segment_logsumexp,
    segment_max,
    segment_mean,
    segment_quantiles,
    segment_softmax,
    segment_sum,
    segment_top_mean,
)

REDUCTIONS = [
    segment_sum, segment_mean, segment_max, segment_logsumexp, segment_logmeanexp, segment_softmax,
]  # fmt: skip


@pytest.mark.parametrize("reduction", [
    *REDUCTIONS,
    lambda values, lengths: segment_quantiles(values, lengths, [0.2, 0.5]),
    lambda values, lengths: segment_top_mean(values, lengths, 0.4),
])  # fmt: skip
def test_gradient_and_single_precision(reduction):
    torch.manual_seed(0)
    values = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: reduction(v, torch.tensor([1, 3, 2])), values)
    with torch.autocast("cpu", torch.bfloat16):
        assert reduction(values.bfloat16(), torch.tensor([6])).dtype == torch.float32
    ones = torch.ones(1000, 1, dtype=torch.bfloat16)  # bfloat16 cannot count beyond 256
    assert segment_sum(ones, torch.tensor([1000])).item() == 1000


@pytest.mark.parametrize("lengths", [[2, 2], [2, 4]])
def test_lengths_must_add_up(lengths):
    for reduction in REDUCTIONS:
        with pytest.raises(RuntimeError, match="sum exactly to 5"):
            reduction(torch.rand(5, 2), torch.tensor(lengths))


def test_ties_share_the_gradient_of_the_maximum():
    values = torch.tensor([2.0, 2.0, 1.0], requires_grad=True)
    segment_max(values, torch.tensor([3])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0.5, 0.0]


# Not binary fractions: 0.14 * 50 and 0.55 * 100 are slightly above the integers they mean.
LEVELS = [n / 100 for n in range(101)]


@pytest.mark.parametrize("size", [1, 2, 7, 25, 40, 50, 100])
def test_quantiles_invert_the_distribution_function(size):
    draw = torch.Generator().manual_seed(size)
    values = torch.randint(0, 20, (size + 3, 2), generator=draw).double()  # with ties
    quantiles = segment_quantiles(values, torch.tensor([3, size]), LEVELS)[1]
    for column, column_quantiles in zip(values[3:].T.tolist(), quantiles.T.tolist(), strict=True):
        for hundredths, value in enumerate(column_quantiles):
            rank = max(-(-hundredths * size // 100), 1)  # rounded up
            assert value == sorted(column)[rank - 1]


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 40), tenths=st.integers(0, 10), seed=st.integers(0, 999))
def test_top_mean_takes_the_last_instance_in_part(length, tenths, seed):
    values = torch.randn(length, 2, generator=torch.Generator().manual_seed(seed)).double()
    top_mean = segment_top_mean(values, torch.tensor([length]), tenths / 10)[0]
    copies = values.repeat_interleave(10, 0).sort(0, descending=True).values
    expected = copies[: max(tenths * length, 10)].mean(0)  # at least one instance: ten copies
    torch.testing.assert_close(top_mean, expected)
