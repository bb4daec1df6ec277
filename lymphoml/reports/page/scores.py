"""The top of the page, and the sections of scores: baselines, the rule-out rule, subgroups."""

from typing import Any

from lymphoml.data.persons import describe_persons
from lymphoml.evaluation.summary import HEADLINE
from lymphoml.reports.format import TITLES, baseline_title, describe_hard_stratum
from lymphoml.reports.page import Choices
from lymphoml.reports.page.chart import CHANCE, forest
from lymphoml.reports.results import (
    STRATA,
    count_patients,
    run_scores,
    titled_baselines,
    without_several_records,
)
from lymphoml.reports.triage import GUARANTEES
from lymphoml.runs.finished_run import Run
from lymphoml.runs.triage_rule import read_rule

SHOWN = (*HEADLINE, "sensitivity", "specificity")
THIS_RUN = "this run"
THRESHOLDS = {
    "fixed": "0.5, not tuned",
    "nested": "tuned on the other folds",
    "best_on_fold": "tuned on the fold itself (invalid: optimistic)",
}
COLOURS = {"sensitivity": "tumoral", "specificity": "reactive"}


def summary(run: Run, choices: Choices) -> dict[str, Any]:
    """The score with its interval, against chance and the clinical baseline."""
    scores = run_scores(run)
    models = {THIS_RUN: scores} | titled_baselines(run)
    gain = ((run.metrics["gain"] or {}).get("all") or {}).get("balanced_accuracy")
    return {
        "name": run.config.get("name", run.path.name),
        "cohort": run.config["data"].get("name", "cohort"),
        "tags": [run.path.resolve().name, *(run.config.get("tags") or [])],
        "verdict": verdict(scores["balanced_accuracy"], CHANCE, "chance"),
        "accuracy": scores["balanced_accuracy"],
        "averaged": run_scores(run, averaged=True),
        "repeats": run.repeat.nunique(),
        "persons": describe_persons(persons) if (persons := run.metrics.get("persons")) else None,
        "single": [without_several_records(run, averaged) for averaged in (False, True)],
        "cards": [(TITLES[measure], scores[measure]) for measure in SHOWN],
        "n": count_patients(run),
        "changes": run.changes,
        "control": bool(run.config["data"].get("shuffle_bag_labels")),
        "gain": gain,
        "gain_verdict": verdict(gain, 0, "the clinical values alone"),
        "charts": [forest(measure, models) for measure in HEADLINE],
    }


def verdict(score: dict[str, Any] | None, level: float, name: str) -> str | None:
    """Whether the score is above `level`, which is called `name`, by its interval."""
    if not score or score.get("low") is None:
        return None
    if score["low"] > level:
        return f"better than {name}"
    return f"{'worse than' if score['high'] < level else 'not significantly different from'} {name}"


def comparison(run: Run, choices: Choices) -> dict[str, Any]:
    """All scores of the run, its baselines in the same folds, and both in the hard stratum."""
    scores, hard_scores = run_scores(run), run_scores(run, "hard")
    suffix = f", mean of {run.repeat.nunique()} repeats"
    groups = {  # an empty one is not shown
        title + (suffix if averaged else ""): values
        for averaged in (False, True)
        for stratum, title in STRATA.items()
        if (values := run_scores(run, stratum, averaged))
    }
    thresholds = run.metrics["thresholds"] or {}
    gains = [run.metrics[key] for key in ("gain", "image_gain") if run.metrics.get(key)]
    hard_models = {THIS_RUN: hard_scores} | titled_baselines(run, "hard")
    hard_missing = None
    if not hard_scores or run.config["data"].get("hard_stratum", ...) is None:
        hard_missing = "No hard stratum is declared (data.hard_stratum), or no patient is in it."
    elif hard_scores["balanced_accuracy"]["value"] is None:
        hard_missing = "The hard stratum is not estimable: it has only one class."
    hard = run.hard_stratum()
    models = {THIS_RUN: scores} | titled_baselines(run)
    return {
        "columns": [TITLES[key] for key in SHOWN],
        "models": [(name, [each.get(key) for key in SHOWN]) for name, each in models.items()],
        "has_clinical": "logistic_regression" in run.metrics["baselines"],
        "gains": [(baseline_title(gain["reference"]), _gains(gain)) for gain in gains],
        "groups": list(groups),
        "measures": [(title, [each.get(key) for each in groups.values()])
                     for key, title in TITLES.items() if key in scores],
        "thresholds": [(title, thresholds[key]["balanced_accuracy"])
                       for key, title in THRESHOLDS.items() if thresholds.get(key)],
        "nested_95": thresholds.get("nested_95"),
        "hard": describe_hard_stratum(run.config, run.metrics.get("hard_max")),
        "hard_missing": hard_missing,
        "hard_counts": None if hard is None else count_patients(run, hard.index[hard]),
        "hard_charts": [forest(measure, hard_models) for measure in HEADLINE],
    }  # fmt: skip


def _gains(gain: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Title and paired difference of each stratum and measure."""
    return [
        (f"{TITLES[measure]}, {title}", difference)
        for stratum, title in STRATA.items()
        for measure, difference in (gain.get(stratum) or {}).items()
        if difference and measure in TITLES
    ]


def triage(run: Run, choices: Choices) -> dict[str, Any]:
    """The rule-out rule. Raises InputError where it is corrupt or made of other predictions."""
    rule = read_rule(run.path)
    if rule is None:
        return {"rule": None}
    tables, differences = [("This run", rule["outcomes"])], {}
    if baseline := rule.get("baseline"):
        tables.append((baseline_title(baseline["name"]).capitalize(), baseline["outcomes"]))
        differences = {
            GUARANTEES[guarantee]: difference
            for guarantee, difference in baseline["specificity_difference"].items()
            if rule["outcomes"][guarantee]["rank"] > 0  # as a rule of an earlier version may have
        }
    return {"rule": rule, "guarantees": GUARANTEES, "tables": tables, "differences": differences}


def subgroups(run: Run, choices: Choices) -> dict[str, Any]:
    """Sensitivity and specificity by subgroup."""
    hard = {"1": "yes", "0": "no"}
    groups = {
        f"hard stratum: {hard.get(group['group'], group['group'])}" if group["by"] == "hard"
        else f"{group['by']}: {group['group']}".replace("_", " "): group
        for group in run.metrics["subgroups"]
    }  # fmt: skip
    models = {name: {key: group[key] or {} for key in COLOURS} for name, group in groups.items()}
    charts = [
        forest(measure, models, 150, len(groups), run_scores(run)[measure]["value"], colour)
        for measure, colour in COLOURS.items()
    ]
    columns = [TITLES[measure] for measure in SHOWN]
    sites = [
        (f"{site['site']} ({site['n']})", [site[measure] for measure in SHOWN])
        for site in run.metrics.get("sites") or ()
    ]
    return {"groups": groups, "charts": charts, "sites": sites, "columns": columns}
