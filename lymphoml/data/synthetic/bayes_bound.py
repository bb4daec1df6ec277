"""The highest score that the generative model of synthetic patients allows."""

import numpy as np
from scipy import stats

from lymphoml.data.synthetic.population import POPULATION, Population

METHOD = (
    "Bayes rule at equal class weights, integrated over the generative model: ages and counts on a "
    "grid of midpoints, bag sizes and numbers of atypical cells exactly, every cell's type taken "
    "as recognised without error. numerical_error is the change from a grid of half as many "
    "points; nothing is sampled."
)


def best_balanced_accuracy(
    images: tuple[int, int], model: Population = POPULATION, points: int = 400
) -> dict[str, dict[str, float]]:
    """Return the highest balanced accuracy of any classifier of `table`, `images` or `both`."""
    fine, coarse = (_bounds(images, model, n) for n in (points, points // 2))
    return {
        source: {"value": value, "numerical_error": abs(value - coarse[source])}
        for source, value in fine.items()
    }


def _bounds(images: tuple[int, int], model: Population, points: int) -> dict[str, float]:
    table, bag = _table_likelihoods(model, points), _bag_likelihoods(model, images)
    # Both: sum the table's probability beyond the threshold that each possible bag sets.
    ratio = table[1] / table[0]
    order = np.argsort(ratio)
    below = [np.concatenate([[0.0], np.cumsum(p[order])]) for p in table]
    place = np.searchsorted(ratio[order], bag[0] / bag[1])
    specificity = (bag[0] * below[0][place]).sum()
    sensitivity = (bag[1] * (1 - below[1][place])).sum()
    return {
        "table": float(np.maximum(*table).sum() / 2),
        "images": float(np.maximum(*bag).sum() / 2),
        "both": float((specificity + sensitivity) / 2),
    }


def _table_likelihoods(model: Population, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each grid point (age, count), reactive and tumoral."""
    middle = (np.arange(points) + 0.5) / points
    age = model.age_range[0] + (model.age_range[1] - model.age_range[0]) * middle
    excess = 20 * max(model.count_scale) * middle**2  # denser where most patients are
    reactive, tumoral = (
        np.outer(
            stats.norm.pdf(age, model.age_mean[label], model.age_spread),
            stats.gamma.pdf(excess, model.count_shape, scale=model.count_scale[label]) * middle,
        ).ravel()
        for label in (0, 1)
    )
    return reactive / reactive.sum(), tumoral / tumoral.sum()


def _bag_likelihoods(model: Population, images: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each (bag size, number of atypical cells), both labels."""
    sizes = np.arange(images[0], images[1] + 1)
    n = np.repeat(sizes, sizes + 1)
    k = np.concatenate([np.arange(size + 1) for size in sizes])
    share = np.log((n + 1) / n) / np.log((images[1] + 1) / images[0])  # log-uniform bag sizes
    unclear = (1 - model.clear_share) * stats.betabinom.pmf(k, n, *model.unclear)
    reactive, tumoral = (
        share * (model.clear_share * stats.betabinom.pmf(k, n, *model.clear[label]) + unclear)
        for label in (0, 1)
    )
    return reactive, tumoral
