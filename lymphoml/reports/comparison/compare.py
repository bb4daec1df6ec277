"""Compare runs, patient by patient and fold by fold, with one of them or with a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, format_run_list
from lymphoml.evaluation import intervals, paired
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.format import baseline_title
from lymphoml.reports.run_labels import flatten, short_names, varying_settings
from lymphoml.runs.finished_run import Run, read_run
from lymphoml.runs.trained_on import differing_tables

PAPER = {"optim": "SGD", "lr": 1e-4, "scheduler": "ExponentialLR"}  # its final configuration
SYNONYMS = {"clinical": "logistic_regression"}  # of columns of baselines.csv
ADVICE = "give runs with the same cohort, seed, data.folds and data.repeats"
DIFFERENCE = {"value": "difference", "low": "difference_low", "high": "difference_high"}
TOLERANCE = 1e-6  # of a probability: machines' sums differ by less, other data by more


@dataclass(frozen=True)
class Stratum:
    """The comparison within one stratum.

    `table` has a row per score and run, ordered by score, the reference first, then the highest
    value: run, is_reference, score, value, low, high, difference, difference_low, difference_high,
    p, p_holm, detectable. The last six are NaN for the reference. `best` is by score.
    """

    n_patients: int
    table: pd.DataFrame
    best: dict[str, paired.Best]
    n_tests: int  # that Holm's correction is over

    @property
    def smallest_detectable(self) -> dict[str, dict[str, float]]:
        """By score, medians over runs: `single`, of one planned comparison, and `holm`."""
        detectable = paired.smallest_detectable
        ratio = detectable(1.0, max(self.n_tests, 1)) / detectable(1.0)
        medians = self.table.groupby("score")["detectable"].median().to_dict()
        return {s: {"single": medians[s], "holm": medians[s] * ratio} for s in paired.PAIR_SCORES}


@dataclass(frozen=True)
class Comparison:
    """Runs compared with `reference`, by stratum: `all` and, where it has both classes, `hard`."""

    runs: Mapping[str, Run]  # by name, the highest balanced accuracy first
    reference: str  # a run's name or a baseline's title
    is_baseline: bool
    tried: int  # configurations, those that are not among `runs` included
    strata: dict[str, Stratum]

    @property
    def not_given(self) -> int:
        return self.tried - len(self.runs)

    @property
    def n_pair_tests(self) -> int:
        """Differences of two of the configurations tried, in all scores."""
        return comb(self.tried, 2) * len(paired.PAIR_SCORES)


def choose_reference(
    given: str | None, paths: Sequence[Path], is_list: bool
) -> tuple[Path | str, str]:
    """Return the reference, a run or a baseline's column, and why. Raises InputError."""
    if given is not None:
        found = [path for path in dict.fromkeys(paths) if given == path.name or Path(given) == path]
        if len(found) > 1:
            names = " and ".join(map(str, found))
            raise InputError(f"reference={given}: {names} have this name; give the folder")
        if found:
            return found[0], "as given"
        return SYNONYMS.get(given, given), "a baseline in the same folds"
    if is_list:
        return paths[0], "the first given"
    papers = [path for path in paths if flatten(read_run(path).config).items() >= PAPER.items()]
    if len(papers) == 1:
        return papers[0], "the paper's optimiser, learning rate and decay"
    return paths[0], "the first by name"


def compare_runs(
    paths: Sequence[Path], reference: Path | str, resamples: int = 2000, seed: int = 0,
    tried: int | None = None, labels: Mapping[Path, str] | None = None,
) -> Comparison:  # fmt: skip
    """Compare the runs with `reference`: one of `paths`, or the column of a baseline.

    `tried` counts the configurations tried, these runs included, which is the default. `labels`
    name the runs; by default their folders do. Raises InputError where runs have other patients or
    folds, fewer than two are given (one, with a baseline), or `tried` is less than these.
    """
    paths, is_baseline = list(dict.fromkeys(paths)), isinstance(reference, str)
    if len(paths) < 2 and not is_baseline:
        raise InputError(
            f"runs={format_run_list(paths)}: a comparison takes two different runs or more, or "
            f"one and a baseline, such as reference=clinical"
        )
    if tried is not None and tried < len(paths):
        raise InputError(f"tried={tried}: {len(paths)} runs are compared; count these, too")
    given = [read_run(path) for path in paths]
    runs = sorted(given, key=lambda run: -(run.metrics["balanced_accuracy"]["value"] or 0))
    names = labels or dict(zip(paths, short_names(paths), strict=True))
    outcome, probabilities = align(sorted(runs, key=lambda run: run.path != reference))
    models = {names[run.path]: probabilities[run.path] for run in runs}
    if isinstance(reference, Path):
        name, of_reference = names[reference], probabilities[reference]
    else:
        name = baseline_title(reference, runs[0].config)
        of_reference = align([read_common_baseline(given, reference)])[1][paths[0]]
    strata = {"all": np.full(len(outcome), True)}
    if (hard := runs[0].hard_stratum()) is not None:
        inside = outcome.index.isin(hard.index[hard])
        if outcome[inside].nunique() == 2:
            strata["hard"] = inside
    by_name = {names[run.path]: run for run in runs}
    comparison = Comparison(by_name, name, is_baseline, tried or len(paths), {})
    for stratum, inside in strata.items():
        within = {label: model[:, inside] for label, model in models.items()}
        comparison.strata[stratum] = _compare_stratum(
            comparison, outcome[inside].to_numpy(), within, of_reference[:, inside], resamples, seed
        )
    return comparison


def compare_pairs(comparison: Comparison, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return a row per score and pair of runs, all patients: each against the others once.

    Columns: run, other, score, value (run - other), low, high, p, p_holm (over `n_pair_tests`).
    """
    outcome, aligned = align(list(comparison.runs.values()))
    models = {name: aligned[run.path] for name, run in comparison.runs.items()}
    pairs = list(combinations(models, 2))
    permutations = max(paired.PERMUTATIONS, paired.PERMUTATIONS_PER_TEST * comparison.n_pair_tests)
    rows = [
        {"run": one, "other": other, "score": score, **difference._asdict()}
        for one, other in pairs
        for score, difference in paired.paired_differences(
            outcome, models[one], models[other], resamples, seed, permutations
        ).items()
    ]
    table = pd.DataFrame(rows).drop(columns="standard_error")
    return table.assign(p_holm=paired.holm(table["p"], comparison.n_pair_tests - len(table)))


def _compare_stratum(
    comparison: Comparison, outcome: np.ndarray, models: Mapping[str, np.ndarray],
    reference: np.ndarray, resamples: int, seed: int,
) -> Stratum:  # fmt: skip
    """`outcome` (n) are labels, `models` and `reference` out-of-fold probabilities (r, n)."""
    name, is_baseline, unseen = comparison.reference, comparison.is_baseline, comparison.not_given
    others = {label: model for label, model in models.items() if is_baseline or label != name}
    differences = paired.compare(outcome, others, reference, resamples, seed, unseen)
    differences = differences.rename(columns={"model": "run", **DIFFERENCE})
    scored = [(name, True, reference), *((label, False, model) for label, model in others.items())]
    rows = [
        {"run": label, "is_reference": is_reference, "score": score, **values}
        for label, is_reference, model in scored
        for score, values in _pool(outcome, model).items()
    ]
    keys = ["run", "is_reference", "score"]
    table = pd.DataFrame(rows).merge(differences.assign(is_reference=False), on=keys, how="left")
    table = table.sort_values(  # balanced accuracy before AUROC
        ["score", "is_reference", "value"], ascending=False, ignore_index=True
    )
    baseline = reference if is_baseline else None
    return Stratum(
        n_patients=len(outcome),
        table=table,
        best=paired.best_of_n_bias(outcome, models, resamples, seed, baseline),
        n_tests=int(table["p"].notna().sum()) + unseen * len(paired.PAIR_SCORES),
    )


def _pool(outcome: np.ndarray, model: np.ndarray) -> dict[str, dict[str, float]]:
    """Each score with its interval, pooled over the repeats (r, n) of a model."""
    repeat, patient = np.indices(model.shape).reshape(2, -1)
    rows = {"patient": patient, "fold": repeat, "label": outcome[patient]}
    return pool(pd.DataFrame(rows | {"probability": model.ravel()}), 1, [*paired.PAIR_SCORES])


def read_common_baseline(runs: Sequence[Run], name: str) -> Run:
    """Return the first run with a baseline's predictions that all share. Raises InputError."""
    tables = {run.path: table for run in runs if (table := run.baseline(name)) is not None}
    if lacking := [run.path for run in runs if run.path not in tables]:
        shared = set.intersection(*(set(run.baseline_names()) for run in runs))
        raise InputError(
            f"reference={name}: must be one of the runs, or a baseline of all of them: "
            f"{', '.join(sorted(shared)) or 'none'} (clinical means logistic_regression); missing "
            f"in {format_run_list(lacking)}"
        )
    first = runs[0].path
    known, *others = (t.set_index(["patient", "fold"])["probability"] for t in tables.values())
    for run, other in zip(runs[1:], others, strict=True):
        if (distance := float((other - known).abs().max())) > TOLERANCE:
            raise InputError(
                f"reference={name}: {run.path} and {first} were trained with other clinical "
                f"columns or data settings: their {name} differs by up to {distance:.3g}; leave "
                f"one out"
            )
    return replace(runs[0], predictions=tables[first])


def align(runs: Sequence[Run]) -> tuple[pd.Series, dict[Path, np.ndarray]]:
    """Labels by patient (n) and each run's probabilities (repeats, n). Raises InputError."""
    tables = [_by_patient(run) for run in runs]
    if problems := [
        f"{run.path}: {difference} in {runs[0].path}; {ADVICE}"
        for run, table in zip(runs, tables, strict=True)
        if (difference := _difference(run, table, runs[0], tables[0]))
    ]:
        raise InputError(problems)
    labels = tables[0].query("repeat == 0").set_index("patient")["label"]
    return labels, {
        run.path: table["probability"].to_numpy(float).reshape(-1, len(labels))
        for run, table in zip(runs, tables, strict=True)
    }


def _by_patient(run: Run) -> pd.DataFrame:
    """The predictions by repeat and patient. Raises InputError unless each is there once."""
    table = run.predictions.assign(repeat=run.repeat)
    table = table.sort_values(["repeat", "patient"], ignore_index=True)
    counts = table["patient"].value_counts()
    duplicate = table.duplicated(["repeat", "patient"])
    if (wrong := duplicate | (table["patient"].map(counts) != table["repeat"].nunique())).any():
        patient = table["patient"][wrong].iloc[0]
        raise InputError(
            f"{run.path / 'predictions.csv'}: patient {patient} is missing or duplicated in a "
            f"repeat; train again"
        )
    return table


def _difference(run: Run, table: pd.DataFrame, first: Run, known: pd.DataFrame) -> str | None:
    """How `run` differs, as far as the words "... in FIRST"; None where it does not."""
    for key in ("folds", "repeats"):
        value, wanted = run.config["data"][key], first.config["data"][key]
        if value != wanted:
            return f"data.{key} is {value} here and {wanted}"
    strata = [each.config["data"].get("hard_stratum") for each in (run, first)]
    if strata[0] != strata[1]:
        return f"data.hard_stratum is {strata[0]} here and {strata[1]}"
    if columns := differing_tables(run.path, first.path):
        return f"{', '.join(columns)} of the clinical table has other values than"
    keys = ["patient", "fold", "label"]
    rows, wanted = (set(each[keys].itertuples(index=False, name=None)) for each in (table, known))
    if rows == wanted:
        return None
    return f"patient {min(rows ^ wanted)[0]} is not here, or has another fold or label than"


def curve_lines(comparison: Comparison, resamples: int = 2000, seed: int = 0) -> list[str]:
    """Return how 1 - AUROC falls in a sweep over `data.train_size`; nothing for other sweeps.

    Its exponent is by least squares on logarithms.
    """
    runs = list(comparison.runs.values())
    settings = varying_settings([run.config for run in runs])
    if len(runs) < 3 or any(set(each) != {"data.train_size"} for each in settings):
        return []
    outcome, probabilities = align(runs)
    tumoral = outcome.to_numpy() == 1
    pairs = [paired.score_pairs(tumoral, probabilities[run.path])["auroc"] for run in runs]
    most = len(outcome) * (1 - 1 / runs[0].config["data"]["folds"])
    patients = [each["data.train_size"] or most for each in settings]
    m, n = pairs[0].shape
    draws = paired.draw_patients(m, n, resamples, seed)
    errors = 1 - np.stack([np.append(paired.resample(each, draws), each.mean()) for each in pairs])
    if errors.min() <= 0:
        return ["Learning curve: none; an AUROC of 1 has no logarithm of its error"]
    *replicates, exponent = np.polyfit(np.log(patients), np.log(errors), 1)[0]
    low, high = intervals.bootstrap_interval(np.array(replicates), min(m, n))
    return [
        f"Learning curve: 1 - AUROC falls as n^{exponent:.2f} [{low:.2f}, {high:.2f}] over n = "
        f"{min(patients):.0f} to {max(patients):.0f} training patients; twice as many multiply it "
        f"by {2**exponent:.2f}"
    ]
