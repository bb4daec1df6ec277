"""Every measure of the run, and of the baselines in the same folds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.reports.comparison.file import read_comparison
from lymphoml.reports.comparison.result import Comparison, parts
from lymphoml.reports.comparison.terminal import (
    HARD,
    NAMES,
    best_lines,
    detectable_lines,
    ordered,
    reference_words,
    told_p,
    tried_lines,
)
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.names import short_names
from lymphoml.reports.page.optional import stratum_in_words
from lymphoml.reports.page.scores import Scores, averaged_scores, baseline_scores, run_scores
from lymphoml.reports.page.sections.headline import THIS
from lymphoml.reports.page.wording import TITLES, baseline_name
from lymphoml.runs.finished_run import Run

TITLE = "Scores and baselines"
THRESHOLDS = {
    "fixed": "0.5, not tuned",
    "nested": "tuned on the other folds",
    "best_on_fold": "tuned on the fold itself",
}
BESIDE = ("balanced_accuracy", "auroc", "sensitivity", "specificity")


def content(run: Run, choices: Choices) -> dict[str, Any]:
    everybody = run_scores(run) or {}
    baselines = baseline_scores(run)
    whom = _whom(run, everybody)
    told_gains = [run.metrics.get(key) for key in ("gain", "image_gain")]
    words = (" on the clinical values", " with the clinical values")
    if not run.config["data"].get("clinical"):
        words = ("", "")
    return {
        "measured": list(whom),
        "measures": [
            (title, [scores.get(key) for scores in whom.values()])
            for key, title in TITLES.items()
            if key in everybody
        ],
        "columns": [TITLES[key] for key in BESIDE],
        "models": [
            (model, [scores.get(key) for key in BESIDE])
            for model, scores in ({THIS: everybody} | baselines).items()
        ],
        "clinical": baseline_name("logistic_regression") in baselines,
        "gains": [
            (baseline_name(gain["reference"]) + on, list(_gains(gain)))
            for gain, on in zip(told_gains, words, strict=True)
            if gain
        ],
        "thresholds": [
            (THRESHOLDS[key], told["balanced_accuracy"], told.get("invalid", False))
            for key, told in (run.metrics.get("thresholds") or {}).items()
            if key in THRESHOLDS and told
        ],
        "ruled_out": (run.metrics.get("thresholds") or {}).get("nested_95"),
        "old": "scores" not in run.metrics,
    }


def _whom(run: Run, everybody: Scores) -> dict[str, Scores]:
    """By whom they are of, the run's own scores, then those averaged over its repeats."""
    averaged = f"mean of {run.repeat.nunique()} repeats"
    told = {
        "all": everybody,
        f"hard stratum, {stratum_in_words(run)}": run_scores(run, "hard"),
        f"all, {averaged}": averaged_scores(run),
        f"hard stratum, {averaged}": averaged_scores(run, "hard"),
    }
    return {who: scores for who, scores in told.items() if scores is not None}


def _gains(gain: dict[str, Any]) -> Any:
    """Who is counted, the measure, and the paired difference."""
    for key, who in (("all", "all"), ("hard", "hard stratum")):
        for measure, told in (gain.get(key) or {}).items():
            if told and measure in TITLES:
                yield who, TITLES[measure], told


# What a page of runs shows of the `comparison.json` beside them.


def comparison_content(runs: Sequence[Run], names: Mapping[Path, str]) -> dict[str, Any]:
    """What stands on the page of `runs`, under their `names`; `state` is none, other or shown.

    It is of other runs where their folders' names or scores are not those of `runs`.
    """
    path = runs[0].path.resolve().parent / "comparison.json"
    if not path.is_file():
        return {"state": "none"}
    try:
        comparison = read_comparison(path)
    except InputError:
        return {"state": "other"}
    folders = short_names([run.path for run in runs])
    if not _same(comparison, dict(zip(folders, runs, strict=True))):
        return {"state": "other"}
    words = {name: names[run.path] for name, run in zip(folders, runs, strict=True)}
    renamed = {stratum: _renamed(part, words) for stratum, part in parts(comparison).items()}
    shown = [("" if stratum == "all" else HARD, part) for stratum, part in renamed.items()]
    whole = renamed["all"]
    return {
        "state": "shown",
        "reference": reference_words(whole),
        "tables": [
            (name + where, _rows(part, score)) for where, part in shown
            for score, name in NAMES.items()
        ],
        "lines": [
            *(f"{where.removeprefix(', ').capitalize()}: {line}" if where else line
              for where, part in shown
              for line in (*detectable_lines(part), *best_lines(part))),
            *tried_lines(whole),
        ],
    }  # fmt: skip


def _renamed(comparison: Comparison, words: Mapping[str, str]) -> Comparison:
    reference = comparison.reference
    return replace(
        comparison,
        reference=words[reference] if comparison.baseline is None else reference,
        table=comparison.table.assign(run=comparison.table["run"].map(words)),
        best={key: best._replace(name=words[best.name]) for key, best in comparison.best.items()},
    )


def _same(comparison: Comparison, runs: Mapping[str, Run]) -> bool:
    rows = comparison.table[["run", "score", "value"]].itertuples(index=False)
    told = parts(comparison).values()
    named = {name for part in told for name in part.table["run"]}
    named |= {part.reference for part in told if part.baseline is None}
    named |= {best.name for part in told for best in part.best.values()}
    return (
        set(comparison.table["run"]) == set(runs)
        and named <= set(runs)
        and all(
            math.isclose(value, runs[name].metrics[score]["value"], abs_tol=1e-9)
            for name, score, value in rows
        )
    )


def _rows(comparison: Comparison, score: str) -> list[dict[Any, Any]]:
    return [
        row | {"p": told_p(row["p"]), "p_holm": told_p(row["p_holm"])}
        for row in ordered(comparison, score).to_dict("records")
    ]
