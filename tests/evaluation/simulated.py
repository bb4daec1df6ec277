"""Predictions whose truth is known: logits of label, patient and model."""

import numpy as np
from scipy.stats import norm


def simulate(random, sizes, skills, shared=0.7):
    """Labels (n), positives first, and the probabilities of each of `skills` (k, n).

    The logits of the classes differ by `skill` standard deviations, around 0.5; `shared` of the
    variance is the patient's and the same in all models.
    """
    labels = np.repeat([1, 0], sizes)
    skills = np.asarray(skills, dtype=float)[:, None]
    patient = random.normal(size=labels.size) * shared**0.5
    own = random.normal(size=(len(skills), labels.size)) * (1 - shared) ** 0.5
    return labels, norm.cdf(skills * (labels - 0.5) + patient + own)
