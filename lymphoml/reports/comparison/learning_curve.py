"""How the error of a sweep over `data.train_size` falls with more training patients."""

import numpy as np

from lymphoml.evaluation.intervals import bootstrap_interval
from lymphoml.evaluation.paired import draw_patients, resample, score_pairs
from lymphoml.reports.comparison.compare import Comparison, align
from lymphoml.reports.run_labels import varying_settings


def curve_lines(comparison: Comparison, resamples: int = 2000, seed: int = 0) -> list[str]:
    """Return the exponent of 1 - AUROC by least squares on logarithms; none for other sweeps."""
    runs = list(comparison.runs.values())
    settings = varying_settings([run.config for run in runs])
    if len(runs) < 3 or any(set(each) != {"data.train_size"} for each in settings):
        return []
    outcome, probabilities = align(runs)
    tumoral = outcome.to_numpy() == 1
    pairs = [score_pairs(tumoral, probabilities[run.path])["auroc"] for run in runs]
    most = len(outcome) * (1 - 1 / runs[0].config["data"]["folds"])
    patients = [each["data.train_size"] or most for each in settings]
    m, n = pairs[0].shape
    draws = draw_patients(m, n, resamples, seed)
    errors = 1 - np.stack([np.append(resample(each, draws), each.mean()) for each in pairs])
    if errors.min() <= 0:
        return ["Learning curve: none; an AUROC of 1 has no logarithm of its error"]
    *replicates, exponent = np.polyfit(np.log(patients), np.log(errors), 1)[0]
    low, high = bootstrap_interval(np.array(replicates), min(m, n))
    return [
        f"Learning curve: 1 - AUROC falls as n^{exponent:.2f} [{low:.2f}, {high:.2f}] over n = "
        f"{min(patients):.0f} to {max(patients):.0f} training patients; twice as many multiply it "
        f"by {2**exponent:.2f}"
    ]
