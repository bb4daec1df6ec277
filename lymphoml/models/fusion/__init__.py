"""Fusions: from a bag's vector and the clinical values to one logit a patient."""

from lymphoml.models.fusion.experts import MixtureOfExperts, ProductOfProbabilities, mixture_logit
from lymphoml.models.fusion.fitted import AdditiveLogit, StackedLogit
from lymphoml.models.fusion.interface import Fusion
from lymphoml.models.fusion.linear import ClinicalOnly, Concat, FiLM, NoClinical

__all__ = [
    "AdditiveLogit",
    "ClinicalOnly",
    "Concat",
    "FiLM",
    "Fusion",
    "MixtureOfExperts",
    "NoClinical",
    "ProductOfProbabilities",
    "StackedLogit",
    "mixture_logit",
]
