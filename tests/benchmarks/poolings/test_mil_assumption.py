"""Every pooling against the algorithmic unit tests of Raff and Holt 2023, and bags of digits."""

import pytest
import torch
from torch import nn

from benchmarks.poolings.digits import digit_bags
from benchmarks.poolings.table import verdict
from benchmarks.poolings.trial import Effort, Result, try_pooling
from benchmarks.poolings.unit_tests import UNIT_TESTS
from lymphoml.cli.main import main
from tests.models.options import POOLINGS

QUICK = Effort(bags=300, tested=200, steps=150, batch=32)
# Poolings of scores: an instance can only ever speak for its bag. With a linear layer on top the
# others also learn what speaks against it.
KEEP = {"max_score", "top_fraction", "noisy_or_mean", "noisy_or"}


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("test", ["single_concept", "two_concepts"])
def test_poolings_of_scores_and_no_others_withstand_the_poison(name, test):
    result = try_pooling(POOLINGS[name], UNIT_TESTS[test], 0, QUICK)
    assert verdict(result).startswith("violates") == (name not in KEEP), result
    if test == "single_concept":  # what one score can learn in the time
        assert result.learned > 0.7, result
        assert (result.tested > 0.7) == (name in KEEP), result


@pytest.mark.parametrize("name", ["mean", "noisy_or_mean"])
def test_what_adds_instances_up_falls_for_their_number(name):
    result = try_pooling(POOLINGS[name], UNIT_TESTS["false_frequency"], 0, QUICK)
    assert verdict(result).startswith("violates"), result


@pytest.mark.parametrize("name", POOLINGS)
def test_finds_the_bags_with_a_nine_and_the_nine_in_them(name):
    result = try_pooling(POOLINGS[name], digit_bags, 0, QUICK)
    assert result.tested > 0.75, result
    assert result.instances is None or result.instances > 0.75, result


def test_untrained_weights_find_no_nine():
    """The measure itself: it takes what is learned."""
    results = [
        try_pooling(POOLINGS["attention"], digit_bags, seed, QUICK._replace(steps=0)).instances
        for seed in range(8)
    ]
    assert 0.3 < sum(results) / 8 < 0.7


class Turned(nn.Module):
    def forward(self, logit: torch.Tensor) -> torch.Tensor:
        return -logit


def test_a_layer_that_turns_the_sign_is_seen(monkeypatch):
    """What makes a pooling of scores keep the assumption is that nothing follows it."""
    expert = "lymphoml.models.fusion.linear.image_head"
    monkeypatch.setattr(expert, lambda image_dim: Turned())
    result = try_pooling(POOLINGS["noisy_or_mean"], UNIT_TESTS["single_concept"], 0, QUICK)
    assert verdict(result).startswith("violates"), result


@pytest.mark.parametrize(("learned", "tested", "says"), [
    (0.9, 0.8, "keeps 0.80 (0.90)"), (0.9, 0.4, "violates 0.40 (0.90)"),
    (0.55, 0.1, "no clue 0.10 (0.55)"),
])  # fmt: skip
def test_verdicts(learned, tested, says):
    assert verdict(Result(learned, tested, None)) == says


def test_the_command_writes_a_row_a_pooling(tmp_path):
    out = tmp_path / "poolings.md"
    main(["poolings", "only=[mean,max_score]", "seeds=1", "bags=40", "steps=2", f"out={out}"])
    rows = [line for line in out.read_text().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["mean", "max_score"]
    assert all(row.count("|") == 7 for row in rows)


@pytest.mark.parametrize(("word", "says"), [
    ("only=[median]", "only=median: allowed are attention, chowder"),
    ("seeds=0", "seeds=0: must be 1 or more"),
    ("bags=3", "bags=3: must be 40 or more"),
])  # fmt: skip
def test_the_command_refuses_what_it_cannot_do(tmp_path, capsys, word, says):
    with pytest.raises(SystemExit) as stop:
        main(["poolings", word, f"out={tmp_path}/x.md"])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
