import numpy as np
import pytest

from lymphoml.evaluation.repeatability import assess, sub_bag_sizes


@pytest.mark.slow
def test_a_known_variance_of_cells_gives_its_correlation_and_flips():
    """Logits are means of cells: between sub-bags of k they correlate by 1 / (1 + noise / k)."""
    random, noise, n, draws = np.random.default_rng(0), 4.0, 1000, 2
    lengths = np.full(n, 40)
    sizes = sub_bag_sizes(lengths)[0]
    assert sizes.tolist() == [4, 10, 20, 1, 2, 3, 4, 6, 8, 12, 16]
    patient = random.normal(size=n)
    cells = patient[:, None] + noise**0.5 * random.normal(size=(n, 40))
    orders = [random.permuted(cells, axis=1) for _ in range(draws)]
    pairs = [[[each[:, :k].mean(1), each[:, k : 2 * k].mean(1)] for k in sizes] for each in orders]
    labels, whole = (patient + random.normal(size=n) > 0).astype(int), cells.mean(1)
    found = assess(labels, lengths, whole, np.array(pairs).transpose(3, 0, 1, 2))
    for k, row in zip(sizes, found["sizes"], strict=True):
        correlation = 1 / (1 + noise / k)
        assert row["icc"]["low"] < correlation < row["icc"]["high"]
        assert row["icc"]["value"] == pytest.approx(correlation, abs=0.03)
        expected = np.arccos(correlation) / np.pi  # of two normal values of this correlation
        assert row["disagreements"]["value"] == pytest.approx(expected, abs=0.03)
        assert row["auroc_difference"]["value"] < 0
    assert found["enough"] is None
    same = np.broadcast_to(whole[:, None, None, None], (n, draws, 11, 2))
    certain = assess(labels, lengths, whole, same)
    assert (certain["enough"], certain["sizes"][0]["icc"]["value"]) == (1, pytest.approx(1))
    assert certain["sizes"][0]["flips"]["high"] == pytest.approx(0.0038, abs=1e-4)  # Wilson's


def test_patients_with_too_few_cells_are_left_out():
    lengths = np.array([1, 2, 9, 9, 8, 20])
    shares = [[max(1, n // 10), max(1, n // 4), max(1, n // 2)] for n in lengths]
    assert sub_bag_sizes(lengths).tolist() == [[*each, 1, 2, 3, 4] for each in shares]
    found = assess(np.array([0, 0, 0, 1, 1, 1]), lengths, np.ones(6), np.ones((6, 1, 7, 2)))
    assert [row["patients"] for row in found["sizes"]] == [5, 5, 5, 5]  # reactive: one has 4 cells
