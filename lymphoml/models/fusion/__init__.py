"""Fusions: from a bag's vector and the clinical values to one logit a patient."""

from lymphoml.models.fusion.fitted import AdditiveLogit, StackedLogit
from lymphoml.models.fusion.trained import (
    ClinicalOnly,
    Concat,
    FiLM,
    Fusion,
    MixtureOfExperts,
    NoClinical,
    ProductOfProbabilities,
)
