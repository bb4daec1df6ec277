"""The bags of Raff and Holt 2023 are what they should be, and score poolings pass their tests."""

import sys

import pytest
import torch

from benchmarks.mil_unit_tests.__main__ import main
from benchmarks.mil_unit_tests.bags import POISON, UNIT_TESTS, Bags, digit_bags
from benchmarks.mil_unit_tests.trial import Effort, Result, try_pooling
from tests.models.options import POOLINGS
from tests.promises.jobs import few

COUNT = 100
QUICK = Effort(bags=300, test_bags=200, steps=150, batch=32)
# Poolings of scores: an instance can only be evidence for its bag. With a linear layer on top, the
# others also learn what is evidence against it.
KEEP = {"max_score", "top_fraction", "noisy_or_mean", "noisy_or"}
# Of each kind one: scores, a mean, attention, scores beside attention, statistics.
KINDS = ["noisy_or_mean", "mean", "attention", "dsmil", "distribution"]


def split(bags: Bags):
    parts = (
        values.split(bags.lengths.tolist()) for values in (bags.instances, bags.instance_label)
    )
    return list(zip(bags.label.tolist(), *parts, strict=True))


@pytest.mark.parametrize("draw", [*UNIT_TESTS.values(), digit_bags])
def test_half_are_positive_and_a_seed_draws_the_same(draw):
    bags = draw(COUNT, True, 3)
    assert bags.label.sum() == COUNT / 2
    assert bags.lengths.sum() == len(bags.instances) == len(bags.instance_label)
    assert torch.equal(bags.instances, draw(COUNT, True, 3).instances)
    for other in (draw(COUNT, True, 4), draw(COUNT, False, 3)):
        assert not torch.equal(bags.instances[:2], other.instances[:2])


@pytest.mark.parametrize("training", [True, False])
def test_labels_follow_from_instances_and_decoys_are_reversed(training):
    for label, bag, positive in split(UNIT_TESTS["single_concept"](COUNT, training, 0)):
        assert label == positive.max()
        assert (bag.mean(1) < POISON / 2).sum() == (label != training)
    for name in ("two_concepts", "false_frequency"):
        counts: dict[float, list[float]] = {0: [], 1: []}
        for label, bag, positive in split(UNIT_TESTS[name](COUNT, training, 0)):
            concepts = {round(instance.mean().item()) for instance in bag[positive == 1]}
            assert concepts == {2, 3} if label else concepts in ({2}, {3})
            counts[label].append(positive.sum().item())
            if name == "two_concepts":
                assert (bag.mean(1) < POISON / 2).sum() == (label != training)
        if name == "false_frequency":
            assert (min(counts[1]) >= max(counts[0])) == training
    assert all(label == nine.max() for label, _, nine in split(digit_bags(COUNT, training, 0)))


def test_training_and_test_share_no_digit():
    bags = [digit_bags(COUNT, training, 0).instances.tolist() for training in (True, False)]
    assert not set(map(tuple, bags[0])) & set(map(tuple, bags[1]))


@pytest.mark.parametrize("name", few(KINDS, "noisy_or_mean", "mean"))
def test_poolings_of_scores_and_no_others_pass_single_concept(name):
    result = try_pooling(POOLINGS[name], UNIT_TESTS["single_concept"], 0, QUICK)
    assert result.verdict().startswith("violates") == (name not in KEEP), result
    assert result.as_training > 0.7, result
    assert (result.test > 0.7) == (name in KEEP), result


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_poolings_of_scores_and_no_others_pass_two_concepts_and_all_find_nines(name):
    result = try_pooling(POOLINGS[name], UNIT_TESTS["two_concepts"], 0, QUICK)
    assert result.verdict().startswith("violates") == (name not in KEEP), result
    result = try_pooling(POOLINGS[name], digit_bags, 0, QUICK)
    assert result.test > 0.75, result
    assert result.instances is None or result.instances > 0.75, result


def test_the_program_writes_a_verdict_for_each_pooling(tmp_path, monkeypatch):
    assert Result(0.9, 0.8, None).verdict() == "keeps 0.80 (0.90)"
    assert Result(0.9, 0.4, None).verdict() == "violates 0.40 (0.90)"
    assert Result(0.55, 0.1, None).verdict() == "not learned 0.10 (0.55)"
    out = tmp_path / "poolings.md"
    options = "--only mean max_score --seeds 1 --bags 40 --steps 2 --out"
    monkeypatch.setattr(sys, "argv", ["mil_unit_tests", *options.split(), str(out)])
    main()
    lines = [line for line in out.read_text().splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["mean", "max_score"]
    assert all(line.count("|") == 7 for line in lines)
