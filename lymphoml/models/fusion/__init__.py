"""Fusions: from a bag's vector (b d) and the clinical values (b k) to one logit a patient (b).

A positive logit says tumoral. `uses_images` says whether the bag is looked at; where it is not,
no image is loaded, encoded or pooled. A fusion that has `fit_clinical(clinical, label,
pos_weight)` is given the fold's training patients once, before training; then, where it has a true
`fits_images`, `fit_images(bag, clinical, label, pos_weight)` is given their bags as well.
"""

from lymphoml.models.fusion.experts import MixtureOfExperts, ProductOfProbabilities, mixture_logit
from lymphoml.models.fusion.fitted import AdditiveLogit, StackedLogit
from lymphoml.models.fusion.linear import ClinicalOnly, Concat, FiLM, NoClinical

__all__ = [
    "AdditiveLogit",
    "ClinicalOnly",
    "Concat",
    "FiLM",
    "MixtureOfExperts",
    "NoClinical",
    "ProductOfProbabilities",
    "StackedLogit",
    "mixture_logit",
]
