"""The bags of known truth: what makes one positive, what the decoy is, and that it turns round."""

import pytest
import torch

from benchmarks.poolings.digits import digit_bags
from benchmarks.poolings.unit_tests import POISON, UNIT_TESTS

COUNT = 200
DRAWS = UNIT_TESTS | {"digits": digit_bags}


def split(bags):
    lengths = bags.lengths.tolist()
    return list(
        zip(
            bags.label.tolist(),
            bags.instances.split(lengths),
            bags.truth.split(lengths),
            strict=True,
        )
    )


@pytest.mark.parametrize("name", DRAWS)
def test_half_are_positive_and_a_seed_draws_the_same(name):
    bags = DRAWS[name](COUNT, True, 3)
    assert bags.label.sum() == COUNT / 2
    assert bags.lengths.sum() == len(bags.instances) == len(bags.truth)
    assert torch.equal(bags.instances, DRAWS[name](COUNT, True, 3).instances)
    for other in (DRAWS[name](COUNT, True, 4), DRAWS[name](COUNT, False, 3)):
        assert not torch.equal(bags.instances[:2], other.instances[:2])


@pytest.mark.parametrize("name", ["single_concept", "digits"])
@pytest.mark.parametrize("training", [True, False])
def test_one_positive_instance_makes_a_bag_positive(name, training):
    for label, _, truth in split(DRAWS[name](COUNT, training, 0)):
        assert label == truth.max()


@pytest.mark.parametrize("name", ["two_concepts", "false_frequency"])
@pytest.mark.parametrize("training", [True, False])
def test_both_concepts_make_a_bag_positive(name, training):
    for label, bag, truth in split(DRAWS[name](COUNT, training, 0)):
        held = {round(h.mean().item()) for h in bag[truth == 1]}
        assert held == {2, 3} if label else held in ({2}, {3})


@pytest.mark.parametrize("name", ["single_concept", "two_concepts"])
@pytest.mark.parametrize("training", [True, False])
def test_the_poison_changes_sides(name, training):
    for label, bag, _ in split(DRAWS[name](COUNT, training, 0)):
        poisoned = (bag.mean(1) < POISON / 2).sum().item()
        assert poisoned == (label != training)


def test_the_frequency_changes_sides():
    for training in (True, False):
        counts = {0: [], 1: []}
        for label, _, truth in split(DRAWS["false_frequency"](COUNT, training, 0)):
            counts[label].append(truth.sum().item())
        if training:
            assert max(counts[0]) <= 2 <= min(counts[1])
        else:
            assert min(counts[0]) > max(counts[1])


def test_training_and_test_share_no_digit():
    train, test = (
        {tuple(row) for row in digit_bags(COUNT, training, 0).instances.tolist()}
        for training in (True, False)
    )
    assert train
    assert test
    assert not train & test
