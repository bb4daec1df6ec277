"""Late fusion: how far the images are to be trusted beside the clinical values, by inner folds."""

import torch
from jaxtyping import Float
from torch import Tensor

from lymphoml.nn.fusion.linear_parts import LinearParts, set_part
from lymphoml.nn.fusion.logistic import fit_logistic


class StackedLogit(LinearParts):
    """logit = weight * image + clinical: a logistic regression on both (Wolpert 1992).

    The image part is a logistic regression on the bags alone (`image_penalty`, in units in which
    they lie at a mean squared distance of 1 from their mean). A training patient's image logit
    comes from a model of the `inner_folds` that did not train on that patient, as no model has
    trained on a held-out one: the patient's own would be bolder, and be trusted too much. So
    weighed, with `penalty` on the squared weights of that logit at unit variance and of the
    clinical values, the image part of all training patients is what stays. All of it is fitted, by
    `fit_images`; unfitted it is 0. Inner folds are stratified, and of patients: a person with two
    records may be in two of them.
    """

    fits_images = True

    def __init__(
        self,
        image_dim: int,
        clinical_dim: int,
        penalty: float = 1.0,
        image_penalty: float = 0.02,
        inner_folds: int = 5,
    ):
        super().__init__(image_dim, clinical_dim, penalty, image_penalty)
        if inner_folds < 2:
            raise ValueError(f"inner_folds is {inner_folds}; allowed are 2 or more")
        self.requires_grad_(False)
        self.inner_folds = inner_folds

    def fit_images(
        self,
        bag: Float[Tensor, "b d"],
        clinical: Float[Tensor, "b k"],
        label: Float[Tensor, " b"],
        pos_weight: float,
    ) -> None:
        """Fit both parts to the training patients; `pos_weight` as in the loss."""
        unseen = self._unseen_logits(bag, label, pos_weight)
        unit = unseen.std(correction=0).clamp_min(torch.finfo(bag.dtype).tiny)
        both = torch.cat([(unseen / unit).unsqueeze(1), clinical.double()], dim=1)
        weights, bias = fit_logistic(both, label, pos_weight, self.penalty)
        set_part(self.clinical, weights[1:], bias)
        trust = weights[0] / unit
        weight, bias = self.fitted_image(bag, label, pos_weight)
        set_part(self.image, trust * weight, trust * bias)

    def _unseen_logits(
        self, bag: Float[Tensor, "b d"], label: Float[Tensor, " b"], pos_weight: float
    ) -> Float[Tensor, " b"]:
        """Each patient's image logit by a model of the other inner folds."""
        fold = torch.empty(len(label), dtype=torch.long)
        fold[label.argsort(stable=True)] = torch.arange(len(label)) % self.inner_folds
        logits = torch.zeros(len(label), dtype=torch.float64)
        for each in range(self.inner_folds):
            train, held_out = fold != each, fold == each
            weight, bias = self.fitted_image(bag[train], label[train], pos_weight)
            logits[held_out] = bag[held_out].double() @ weight + bias
        return logits
