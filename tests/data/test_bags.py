import numpy as np
import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.data.bags import Bag, BagDataset, EpochSampler, collate, shuffled_owners
from lymphoml.data.feature_store import FeatureStore

SIZES = {"P1": 5, "P2": 3, "P3": 9}
# Image i of patient Pp is filled with 10 p + i.
STORE = FeatureStore({
    p: np.repeat(np.arange(size, dtype="u1") + 10 * int(p[1]), 12).reshape(size, 2, 2, 3)
    for p, size in SIZES.items()
}, ["pixels"])  # fmt: skip


def dataset(bag_size=None, seed=0, patients=tuple(SIZES), augment=False):
    clinical = np.arange(2 * len(patients), dtype=np.float32).reshape(-1, 2)
    labels = [1, 0, -1][: len(patients)]
    return BagDataset(patients, patients, clinical, labels, STORE, bag_size, augment, seed)


def numbers(bag):
    return bag.images[:, 0, 0, 0].tolist()


def test_collate_concatenates_and_never_pads():
    bags = dataset()
    batch = collate([bags[0, 2], bags[0, 0]])
    assert batch.images.shape == (14, 3, 2, 2)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.images[:, 0, 0, 0].tolist() == [*range(30, 39), *range(10, 15)]
    assert batch.lengths.tolist() == [9, 5]
    assert batch.clinical.tolist() == [[4, 5], [0, 1]]
    assert batch.label.tolist() == [-1, 1]
    assert batch.ids == ("P3", "P1")


def test_a_single_bag_is_not_copied_and_an_empty_one_among_others_is_refused():
    single = dataset()[0, 1]._replace(images=np.zeros((3, 2, 2, 3), np.uint8))
    batch = collate([single])
    single.images[:] = 7
    assert (batch.images == 7).all()
    bag = Bag(np.empty((0, 2, 2, 3), np.uint8), np.zeros(1, np.float32), 1, "P7", None)
    full = bag._replace(images=np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(InputError, match="P7 has no image"):
        collate([full, bag])


def test_bag_size_draws_without_replacement_anew_each_epoch_and_patient():
    bags = dataset(bag_size=4)
    drawn = [tuple(numbers(bags[epoch, 2])) for epoch in range(30)]
    assert all(len(set(draw)) == 4 and list(draw) == sorted(draw) for draw in drawn)
    assert len(set(drawn)) > 20
    assert set(sum(drawn, ())) == set(range(30, 39))
    assert numbers(bags[0, 1]) == [20, 21, 22]
    alone, other = dataset(bag_size=4, patients=("P3",)), dataset(4, seed=1)
    assert drawn[7] == tuple(numbers(alone[7, 0]))
    assert any(tuple(numbers(other[epoch, 2])) != drawn[epoch] for epoch in range(5))


def test_augmentation_noise_is_new_each_epoch_and_independent_of_the_rest_of_the_batch():
    bags = dataset(augment=True)
    together, alone = collate([bags[4, 0], bags[4, 2]]), collate([bags[4, 2]])
    assert together.augmentation_noise.shape == (14, 12)
    assert torch.equal(together.augmentation_noise[5:], alone.augmentation_noise)
    assert alone.augmentation_noise.min() >= 0
    assert alone.augmentation_noise.max() < 1
    assert not torch.equal(alone.augmentation_noise, collate([bags[5, 2]]).augmentation_noise)
    assert collate([dataset()[4, 2]]).augmentation_noise is None


def test_training_order_is_a_permutation_keyed_by_epoch():
    order = EpochSampler(50, seed=3, training=True)
    first = [position for _, position in order]
    order.set_epoch(1)
    second = list(order)
    assert second == list(EpochSampler(50, seed=3, training=True, epoch=1))
    assert sorted(second) == [(1, position) for position in range(50)]
    assert first != [position for _, position in second]
    as_listed = EpochSampler(3, seed=0, training=True, shuffle=False)
    as_listed.set_epoch(9)
    assert list(as_listed) == [(9, 0), (9, 1), (9, 2)]  # other images of each in every epoch
    evaluation = EpochSampler(3, seed=0, training=False)
    evaluation.set_epoch(9)  # the order and the subset of images stay
    assert list(evaluation) == [(0, 0), (0, 1), (0, 2)]


def test_shuffled_bags_keep_label_and_clinical_values_and_change_the_images():
    patients = [f"P{i}" for i in range(1, 31)]
    order = shuffled_owners(patients, seed=3)
    assert sorted(order) == sorted(patients)
    assert order == shuffled_owners(patients, seed=3) != shuffled_owners(patients, seed=4)
    assert sum(one == other for one, other in zip(order, patients, strict=True)) < 6
    clinical = np.zeros((3, 1), np.float32)
    bags = BagDataset([*SIZES], ["P3", "P1", "P2"], clinical, [1, 0, 1], STORE, None, False, 0)
    assert [bags[0, i].patient for i in range(3)] == ["P1", "P2", "P3"]
    assert numbers(bags[0, 0]) == [*range(30, 39)]
