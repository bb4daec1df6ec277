import numpy as np
import pytest

from lymphoml.evaluation.repeatability import assess, sub_bag_sizes


def test_a_known_variance_of_cells_gives_its_correlation_and_flips():
    """Logits are means of cells: between sub-bags of k they correlate by 1 / (1 + noise / k)."""
    random, noise, n, draws = np.random.default_rng(0), 4.0, 1000, 2
    lengths = np.full(n, 40)
    sizes = sub_bag_sizes(lengths)
    assert sizes[0].tolist() == [4, 10, 20, 1, 2, 3, 4, 6, 8, 12, 16]
    patient = random.normal(size=n)
    cells = patient[:, None] + noise**0.5 * random.normal(size=(n, 40))
    orders = [np.stack([random.permutation(each) for each in cells]) for _ in range(draws)]
    pairs = [
        [[order[:, :k].mean(1), order[:, k : 2 * k].mean(1)] for k in sizes[0]] for order in orders
    ]
    labels = (patient + random.normal(size=n) > 0).astype(int)
    found = assess(labels, lengths, cells.mean(1), np.array(pairs).transpose(3, 0, 1, 2))
    for k, row in zip(sizes[0], found["sizes"], strict=True):
        correlation = 1 / (1 + noise / k)
        assert row["icc"]["value"] == pytest.approx(correlation, abs=0.03)
        assert row["icc"]["low"] < correlation < row["icc"]["high"]
        expected = np.arccos(correlation) / np.pi  # of two normal values of this correlation
        assert row["disagreements"]["value"] == pytest.approx(expected, abs=0.03)
        assert row["auroc_difference"]["value"] < 0
    assert found["enough"] is None
    same = np.broadcast_to(cells.mean(1)[:, None, None, None], (n, draws, 11, 2))
    certain = assess(labels, lengths, cells.mean(1), same)
    assert certain["enough"] == 1
    assert certain["sizes"][0]["icc"]["value"] == pytest.approx(1)
    assert certain["sizes"][0]["flips"]["high"] == pytest.approx(0.0038, abs=1e-4)  # Wilson's


def test_patients_with_too_few_cells_are_left_out():
    lengths = np.array([1, 2, 9, 9, 8, 20])
    assert sub_bag_sizes(lengths).tolist() == [
        [max(1, n // 10), max(1, n // 4), max(1, n // 2), 1, 2, 3, 4] for n in lengths
    ]
    logits = np.where(lengths[:, None, None, None] < 2, np.nan, np.ones((6, 1, 7, 2)))
    found = assess(np.array([0, 0, 0, 1, 1, 1]), lengths, np.ones(6), logits)
    assert [row["patients"] for row in found["sizes"]] == [5, 5, 5, 5]  # reactive: one has 4 cells
