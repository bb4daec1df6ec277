"""Compare runs on the same patients and folds with one of them or with a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, format_run_list
from lymphoml.evaluation.paired import (
    PAIR_SCORES,
    Best,
    best_of_n_bias,
    compare,
    smallest_detectable,
)
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.comparison.alignment import align
from lymphoml.reports.format import baseline_title
from lymphoml.reports.run_labels import flatten, short_names
from lymphoml.runs.finished_run import Run, read_run

PAPER = {"optim": "SGD", "lr": 1e-4, "scheduler": "ExponentialLR"}  # its final configuration
SYNONYMS = {"clinical": "logistic_regression"}  # of columns of baselines.csv
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
    best: dict[str, Best]
    n_tests: int  # that Holm's correction is over

    @property
    def smallest_detectable(self) -> dict[str, dict[str, float]]:
        """By score, medians over runs: `single`, of one planned comparison, and `holm`."""
        ratio = smallest_detectable(1.0, max(self.n_tests, 1)) / smallest_detectable(1.0)
        medians = {
            score: float(np.nanmedian(values)) if values.notna().any() else np.nan
            for score, values in self.table.groupby("score")["detectable"]
        }
        return {
            score: {"single": medians[score], "holm": medians[score] * ratio}
            for score in PAIR_SCORES
        }


@dataclass(frozen=True)
class Comparison:
    """Runs compared with `reference`, by stratum: `all` and, where it has both classes, `hard`."""

    runs: Mapping[str, Run]  # by name, the highest balanced accuracy first
    reference: str  # a run's name or a baseline's title
    is_baseline: bool
    tried: int  # configurations, those that are not among `runs` included
    strata: dict[str, Stratum] = field(default_factory=dict)

    @property
    def not_given(self) -> int:
        return self.tried - len(self.runs)


def choose_reference(
    given: str | None, paths: Sequence[Path], is_list: bool
) -> tuple[Path | str, str]:
    """The reference, a run or the column of a baseline, and why it was chosen.

    Without a `given` one: the first of a list, in a sweep the paper's configuration, else the first
    by name. Raises InputError where several runs have the given name.
    """
    if given is not None:
        every = dict.fromkeys(paths)
        found = [path for path in every if path == Path(given) or path.name == given]
        if len(found) > 1:
            names = " and ".join(map(str, found))
            raise InputError(f"reference={given}: {names} have this name; give the folder")
        if found:
            return found[0], "as given"
        return SYNONYMS.get(given, given), "a baseline in the same folds"
    if is_list:
        return paths[0], "the first given"
    settings = {path: flatten(read_run(path).config) for path in paths}
    papers = [
        path
        for path, flat in settings.items()
        if all(flat.get(key) == value for key, value in PAPER.items())
    ]
    if len(papers) == 1:
        return papers[0], "the paper's optimiser, learning rate and decay"
    return paths[0], "the first by name"


def compare_runs(
    paths: Sequence[Path],
    reference: Path | str,
    resamples: int = 2000,
    seed: int = 0,
    tried: int | None = None,
    labels: Mapping[Path, str] | None = None,
) -> Comparison:
    """Compare the runs with `reference`: one of `paths`, or the column of a baseline.

    `tried` counts the configurations tried, these runs included, which is the default. `labels`
    name the runs; by default their folders do. Raises InputError where runs have other patients or
    folds, fewer than two are given (one, with a baseline), or `tried` is less than these.
    """
    paths = list(dict.fromkeys(paths))
    _check(paths, reference, tried)
    given = [read_run(path) for path in paths]
    runs = sorted(given, key=lambda run: -(run.metrics["balanced_accuracy"]["value"] or 0))
    names = labels or dict(zip(paths, short_names(paths), strict=True))
    by_name = {names[run.path]: run for run in runs}
    outcome, probabilities = align(sorted(runs, key=lambda run: run.path != reference))
    models = {name: probabilities[run.path] for name, run in by_name.items()}
    if isinstance(reference, Path):
        comparison = Comparison(by_name, names[reference], False, tried or len(paths))
        of_reference = probabilities[reference]
    else:
        baseline = read_common_baseline(given, reference)
        title = baseline_title(reference, runs[0].config)
        comparison = Comparison(by_name, title, True, tried or len(paths))
        of_reference = align([baseline])[1][baseline.path]
    strata = {"all": pd.Series(True, index=outcome.index)}
    hard = runs[0].hard_stratum()
    if hard is not None:
        strata["hard"] = pd.Series(outcome.index.isin(hard.index[hard]), index=outcome.index)
    return replace(
        comparison,
        strata={
            name: _compare_stratum(
                comparison,
                outcome[inside].to_numpy(),
                {label: model[:, inside] for label, model in models.items()},
                of_reference[:, inside],
                resamples,
                seed,
            )
            for name, inside in strata.items()
            if name == "all" or outcome[inside].nunique() == 2
        },
    )


def _check(paths: Sequence[Path], reference: Path | str, tried: int | None) -> None:
    if isinstance(reference, Path):
        if len(paths) < 2:
            raise InputError(
                f"runs={format_run_list(paths)}: a comparison takes two different runs or more, or "
                f"one and a baseline, such as reference=clinical"
            )
        if reference not in paths:
            raise InputError(f"reference={reference} is none of runs={format_run_list(paths)}")
    if tried is not None and tried < len(paths):
        raise InputError(
            f"tried={tried}: {len(paths)} runs are compared; count these and all others tried"
        )


def _compare_stratum(
    comparison: Comparison,
    outcome: np.ndarray,
    models: Mapping[str, np.ndarray],
    reference: np.ndarray,
    resamples: int,
    seed: int,
) -> Stratum:
    """`outcome` (n) are labels, `models` and `reference` out-of-fold probabilities (r, n)."""
    name, is_baseline = comparison.reference, comparison.is_baseline
    others = {label: model for label, model in models.items() if is_baseline or label != name}
    differences = compare(
        outcome, others, reference, resamples, seed, comparison.not_given
    ).rename(
        columns={"model": "run", "value": "difference", "low": "difference_low",
                 "high": "difference_high"}
    )  # fmt: skip
    scored = [(name, True, reference)] if is_baseline else []
    scored += [(label, label == name and not is_baseline, model) for label, model in models.items()]
    rows = [
        {"run": label, "is_reference": is_reference, "score": score, **values}
        for label, is_reference, model in scored
        for score, values in _pool(outcome, model).items()
    ]
    table = pd.DataFrame(rows)
    keys = ["run", "is_reference", "score"]
    table = table.merge(differences.assign(is_reference=False), on=keys, how="left")
    order = {score: place for place, score in enumerate(PAIR_SCORES)}
    table = table.sort_values(
        ["score", "is_reference", "value"], ascending=[True, False, False], kind="stable",
        key=lambda column: column.map(order) if column.name == "score" else column,
        ignore_index=True,
    )  # fmt: skip
    return Stratum(
        n_patients=len(outcome),
        table=table,
        best=best_of_n_bias(outcome, models, resamples, seed, reference if is_baseline else None),
        n_tests=int(table["p"].notna().sum()) + comparison.not_given * len(PAIR_SCORES),
    )


def _pool(outcome: np.ndarray, model: np.ndarray) -> dict[str, dict[str, float]]:
    """Each score with its interval, pooled over the repeats (r, n) of a model."""
    repeats, n = model.shape
    rows = pd.DataFrame(
        {
            "patient": np.tile(np.arange(n), repeats),
            "fold": np.repeat(np.arange(repeats), n),
            "label": np.tile(outcome, repeats),
            "probability": model.ravel(),
        }
    )
    return pool(rows, 1, [*PAIR_SCORES])


def read_common_baseline(runs: Sequence[Run], name: str) -> Run:
    """The first run with the probabilities of a baseline that all runs share.

    Each run fits the baselines itself, with its own data settings. Raises InputError where one
    lacks the baseline or fitted it to other data.
    """
    tables = [run.baseline(name) for run in runs]
    if lacking := [run.path for run, table in zip(runs, tables, strict=True) if table is None]:
        shared = set.intersection(*(set(run.baseline_names()) for run in runs))
        raise InputError(
            f"reference={name}: must be one of the runs, or a baseline of all of them: "
            f"{', '.join(sorted(shared)) or 'none'} (clinical means logistic_regression); missing "
            f"in {format_run_list(lacking)}"
        )
    first, *others = (
        table.set_index(["patient", "fold"])["probability"] for table in tables if table is not None
    )
    for run, other in zip(runs[1:], others, strict=True):
        if (distance := float((other - first).abs().max())) > TOLERANCE:
            raise InputError(
                f"reference={name}: {run.path} and {runs[0].path} were trained with other clinical "
                f"columns or data settings: their {name} differs by up to {distance:.3g}; leave "
                f"one out"
            )
    return replace(runs[0], predictions=cast(pd.DataFrame, tables[0]))
