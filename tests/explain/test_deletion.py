"""Deletion and insertion of images and of pixels, against what can be worked out by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from lymphoml.explain.bag import Bag, effects
from lymphoml.explain.deletion import check_cells, check_places, right_by_construction
from lymphoml.models.fusion.trained import Concat
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.attention import Attention
from lymphoml.models.pooling.statistics import Mean, MeanStd

CLINICAL = torch.tensor([0.3, -1.2])


def bag(pooling=Attention, count=6, encoder=None, images=None):
    torch.manual_seed(0)
    images = torch.randn(count, 4) if images is None else images
    encoder = encoder or nn.Identity()
    pooled = pooling(4)
    model = MILModel(encoder, pooled, Concat(pooled.dim, 2)).eval()
    return Bag("P1", model, images, [lambda images: images], CLINICAL)


def values(rows):
    return {(row.method, row.check, row.control, row.seed): row.value for row in rows}


@torch.no_grad()
def test_images_are_removed_by_descending_evidence_for_the_models_call():
    patient = bag()
    scores = np.array([0.3, -0.2, np.nan, 0.9, -0.5, 0.1])
    found = values(check_cells(patient, {"occlusion": scores}, np.array([1, 0, 0, 1, 0, 1])))
    order = np.argsort(-patient.call * np.nan_to_num(scores), kind="stable")

    def towards(places):
        return patient.call * float(
            patient.model(patient.images[places], torch.tensor([len(places)]), CLINICAL[None])
        )

    whole = towards(np.arange(6))
    removed = [min(int(share * 6 + 0.5 + 1e-9), 5) for share in np.arange(0.05, 0.96, 0.05)]
    first = np.mean([whole - towards(order[each:]) for each in removed])
    last = np.mean([whole - towards(order[: 6 - each]) for each in removed])
    for control, expected in (("", (first, -last)), ("reverse", (last, -first))):
        for check, area in zip(("cells_deletion", "cells_insertion"), expected, strict=True):
            assert found["occlusion", check, control, 0] == pytest.approx(area, abs=1e-6)
    assert found["occlusion", "truth", "", 0] == pytest.approx(1)  # 3 of both, unknown is 0
    by_chance = [found["occlusion", "cells_deletion", "random", seed] for seed in range(10)]
    assert np.std(by_chance) > 0


def test_a_bag_of_one_image_is_left_out():
    patient = bag(count=1)
    assert [*check_cells(patient, {"attention": np.ones(1)}, np.ones(1))] == []


@pytest.mark.parametrize(("pooling", "exact"), [(Mean, True), (MeanStd, False)])
def test_what_is_right_by_construction_is_the_best_of_all_orders(pooling, exact):
    patient = bag(pooling, count=4)
    assert right_by_construction(patient.model, "leave_one_out", "cells_deletion") == exact
    assert not right_by_construction(patient.model, "attention", "cells_deletion")
    ((_, scores, _),) = effects(patient, ["leave_one_out"])
    area = values(check_cells(patient, {"leave_one_out": scores}, None))
    own = area["leave_one_out", "cells_deletion", "", 0]
    for order in permutations(range(4)):
        ranks = patient.call * -np.argsort(order).astype(float)
        other = values(check_cells(patient, {"occlusion": ranks}, None))
        assert other["occlusion", "cells_deletion", "", 0] <= own + 1e-6 or not exact


def test_attention_is_an_order_without_a_sign():
    patient = bag()
    given = {
        method: scores for method, scores, _ in effects(patient, ["leave_one_out", "attention"])
    }
    found = values(check_cells(patient, given, None))
    negative = values(check_cells(patient, {"occlusion": -patient.call * given["attention"]}, None))
    key = "cells_deletion", "", 0
    assert found["attention", *key] == pytest.approx(
        -negative["occlusion", "cells_insertion", "", 0]
    )
    assert -1 <= found["leave_one_out", "correlation_with_attention", "", 0] <= 1


class Contrast(nn.Module):
    """Features from the detail in one corner of 8 x 8 pixels; blur takes that away."""

    def forward(self, images):
        corner = images[:, :, :8, :8].float() / 255
        return corner.std((2, 3)).mean(1, keepdim=True).repeat(1, 4)


def test_blurring_follows_the_map_that_looks_where_the_network_does():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8, generator=generator)
    patient = bag(Mean, encoder=Contrast(), images=images)
    weights = patient.model.fusion.both.weight[0, :4].detach()
    sign = float(weights.sum().sign())  # of detail: for tumoral, or against
    right, elsewhere = np.zeros((3, 3, 3)), np.zeros((3, 3, 3))
    right[:, 0, 0] = sign
    elsewhere[:, 2, 2] = sign
    found = values(check_places(patient, [0, 2], {"grad_cam": right, "occlusion": elsewhere},
                                {"grad_cam": (3.5, 8), "occlusion": (3.5, 8)}))  # fmt: skip
    for check in ("places_deletion", "places_insertion"):
        own = found["grad_cam", check, "", 0]
        for control in ("random", "reverse", "centre_first"):
            assert own > found["grad_cam", check, control, 0]
        assert own == pytest.approx(found["grad_cam", check, "mean_map", 0])  # alike in all images
        assert own == pytest.approx(found["grad_cam", check, "other_image", 0])
        assert own > found["occlusion", check, "", 0]
