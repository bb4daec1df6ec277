"""Does the logit follow what a method calls evidence? Deletion and insertion, and their controls.

Whatever an order is of, images of a bag or pixels of an image, two numbers describe it: how far the
logit falls from the model's own call without its first 5, 10, ... %, and without its last. The
first is the order's deletion area, the second with its sign reversed its insertion area (the first
alone, less the whole); for the reverse order they change places.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lymphoml.core.seeding import keyed_generator
from lymphoml.evaluation.intervals import delong
from lymphoml.explain.bag import Bag
from lymphoml.explain.cells import replaced_logits
from lymphoml.explain.maps import CHUNK, Place, blur_where, spread
from lymphoml.explain.randomised import rank_correlation
from lymphoml.explain.tables import ATTENTION, GRAD_CAM, LEAVE_ONE_OUT
from lymphoml.models.fusion.fitted import LateFusion
from lymphoml.models.fusion.trained import Concat, FiLM, NoClinical, ProductOfProbabilities
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.statistics import Mean

Array = np.ndarray
Falls = tuple[float, float]  # of the logit: without the first, without the last
STEPS = 20  # images are removed by twentieths
SHARES = (0.2, 0.4, 0.6, 0.8)  # of an image's pixels
CELL_SEEDS, PLACE_SEEDS = 10, 3
MONOTONE = (Concat, FiLM, LateFusion, NoClinical, ProductOfProbabilities)  # in a sum over images


class Row(NamedTuple):
    """A number of one patient: an area, of a method or (with `control`) of another order."""

    method: str
    check: str
    control: str
    seed: int
    value: float


def evidence(bag: Bag, method: str, scores: Array) -> Array:
    """Return scores (n) towards the model's own call; attention has no sign. Unknown is 0."""
    return np.nan_to_num(scores) * (1 if method == ATTENTION else bag.call)


@torch.no_grad()
def check_cells(bag: Bag, scores: Mapping[str, Array], truth: Array | None) -> Iterator[Row]:
    """Yield the areas of each method's order of the images (n), and of random orders.

    With `truth`, 0 or 1 of each image, also the AUROC of the scores for it. Nothing but that for a
    bag of one image.
    """
    if truth is not None and len(np.unique(truth)) == 2:
        for method, values in scores.items():
            yield Row(method, "truth", "", 0, delong(truth, np.nan_to_num(values))[0])
    count = len(bag.images)
    if count < 2:
        return
    removed = [min((step * count + STEPS // 2) // STEPS, count - 1) for step in range(1, STEPS)]

    def falls(order: Array) -> Falls:
        kept = [order[each:] for each in removed] + [order[: count - each] for each in removed]
        first, last = bag.call * (bag.logit - bag.logits(kept)).reshape(2, -1).mean(axis=1)
        return float(first), float(last)

    random = [keyed_generator("images", seed, bag.patient) for seed in range(CELL_SEEDS)]
    by_chance = [falls(each.permutation(count)) for each in random]
    towards = {method: evidence(bag, method, values) for method, values in scores.items()}
    for method, values in towards.items():
        own = falls(np.argsort(-values, kind="stable"))
        yield from _areas(method, "cells", {"": [own], "random": by_chance})
    if {LEAVE_ONE_OUT, ATTENTION} <= towards.keys():
        found = rank_correlation(towards[LEAVE_ONE_OUT][None], towards[ATTENTION][None])
        yield Row(LEAVE_ONE_OUT, "correlation_with_attention", "", 0, found)


def _areas(method: str, what: str, falls: Mapping[str, Sequence[Falls]]) -> Iterator[Row]:
    """Yield deletion and insertion of each order: by control, "" the method's own, and by seed."""
    for control, orders in {**falls, "reverse": [falls[""][0][::-1]]}.items():
        for seed, (first, last) in enumerate(orders):
            yield Row(method, f"{what}_deletion", control, seed, first)
            yield Row(method, f"{what}_insertion", control, seed, -last)


@torch.no_grad()
def check_places(
    bag: Bag, chosen: Sequence[int], found: Mapping[str, Array],
    places: Mapping[str, Place],
) -> Iterator[Row]:  # fmt: skip
    """Yield the areas of each method's order of the pixels, mean over the images `chosen`.

    `found` are the maps (n h w) of all images by method, `places` their `centre_and_step`. Pixels
    are blurred, in one image at a time, the others as they are.
    """
    count, (height, width) = len(bag.images), bag.images.shape[2:]
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in (height, width))
    orders = {("", "centre_first", 0): [-np.hypot(rows[:, None], columns)] * len(chosen)}
    for method, maps in found.items():
        towards = bag.call * maps
        drawn: dict[str, Any] = {"": towards[[*chosen]]}
        if count > 1:
            steps = keyed_generator("image", bag.patient).integers(1, count, len(chosen))
            drawn["other_image"] = towards[(np.array(chosen) + steps) % count]
            drawn["mean_map"] = [towards.mean(axis=0)] * len(chosen)
        by_seed = {(control, 0): values for control, values in drawn.items()}
        for seed in range(PLACE_SEEDS):
            random = keyed_generator("places", method, seed, bag.patient)
            by_seed["random", seed] = random.normal(size=(len(chosen), *maps.shape[1:]))
        for key, values in by_seed.items():
            spreads = [spread(each, *places[method], height, width) for each in values]
            orders[method, *key] = spreads
    falls = _blurring_falls(bag, chosen, np.array([*orders.values()]))
    for method in found:
        by_control: dict[str, list[Falls]] = {}
        for (of, control, _), (first, last) in zip(orders, falls.tolist(), strict=True):
            if of in ("", method):
                by_control.setdefault(control, []).append((first, last))
        yield from _areas(method, "places", by_control)


def _blurring_falls(bag: Bag, chosen: Sequence[int], orders: Array) -> Array:
    """Return (o, 2) how far the logit falls where pixels of most value, of least, are blurred.

    `orders` (o m h w) are values of the pixels of the `chosen` images (m): mean over these.
    """
    flat = orders.reshape(*orders.shape[:2], -1)
    ranks = np.argsort(np.argsort(-flat, axis=2, kind="stable"), axis=2).reshape(orders.shape)
    size, falls = flat.shape[2], []
    for number, image in enumerate(chosen):
        first = np.stack([ranks[:, number] < share * size for share in SHARES], axis=1)
        masks = np.stack([first, ~first], axis=1)  # o, first or last, shares, h, w
        away = torch.from_numpy(masks.reshape(-1, 1, *masks.shape[3:]))
        changed = blur_where(away, bag.images[image])
        encoded: Any = bag.model.embed(changed, transform=bag.transforms[0], chunk_size=CHUNK)
        logits = replaced_logits(bag.model, bag.views[0], bag.clinical, image, encoded)
        fallen = bag.call * (bag.logit - logits.double().numpy())
        falls.append(fallen.reshape(masks.shape[:3]).mean(axis=2))
    return np.mean(falls, axis=0)


def right_by_construction(model: MILModel, method: str, check: str) -> bool:
    """Return whether no order of images could be better: they enter the logit as a sum."""
    of_sum = type(model.pooling) is Mean and isinstance(model.fusion, MONOTONE)
    return of_sum and check.startswith("cells") and method in (LEAVE_ONE_OUT, GRAD_CAM)
