"""The scores of a run and of what stands beside it, whatever version of lymphoml wrote them."""

from lymphoml.evaluation.intervals import proportion
from lymphoml.evaluation.metrics import score_fold
from lymphoml.reports.page.wording import baseline_name
from lymphoml.runs.finished_run import Run

Scores = dict[str, dict[str, float | None]]  # measure: value, low, high


def run_scores(run: Run, stratum: str = "all") -> Scores | None:
    """By measure; None where the run does not tell of this stratum, or has no patient in it."""
    if (told := run.metrics.get("scores")) is not None:
        return told.get(stratum)
    return _everybody(run) if stratum == "all" else None


def averaged_scores(run: Run, stratum: str = "all") -> Scores | None:
    """Of each patient's mean over repeats; None also where there is one repeat."""
    return (run.metrics.get("averaged") or {}).get("scores", {}).get(stratum)


def told_baselines(run: Run, stratum: str = "all") -> dict[str, Scores]:
    """By the baselines' names in `baselines.csv`."""
    if (told := run.metrics.get("baselines")) is not None:
        return {key: scores[stratum] for key, scores in told.items() if scores.get(stratum)}
    clinical = run.metrics.get("baseline", {}).get("clinical")
    if clinical is None or stratum != "all":
        return {}
    return {"logistic_regression": clinical}


def baseline_scores(run: Run, stratum: str = "all") -> dict[str, Scores]:
    """By the baselines' names in words."""
    told = told_baselines(run, stratum)
    return {baseline_words(run, key): scores for key, scores in told.items()}


def clinical_account(run: Run, stratum: str = "all") -> str:
    """What the clinical values alone reach in the run's folds, in a line."""
    scores = told_baselines(run, stratum).get("logistic_regression")
    if scores is None:
        return "Clinical values alone: not told by these runs."
    told = "; ".join(
        f"{title} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        for title, value in (
            ("balanced accuracy", scores["balanced_accuracy"]), ("AUROC", scores["auroc"]),
        )
    )  # fmt: skip
    return f"Clinical values alone, logistic regression in the same folds: {told}."


def baseline_words(run: Run, key: str) -> str:
    """The count rule is of whatever column the hard stratum is declared on."""
    declared = run.config["data"].get("hard_stratum")
    if key == "count_rule" and declared:
        return f"{declared['column'].replace('_', ' ')} rule"
    return baseline_name(key)


def counts(run: Run) -> dict[str, int]:
    """Patients in all, tumoral, reactive; each once, also with repeats."""
    labels = run.predictions.drop_duplicates("patient")["label"]
    tumoral = int((labels == 1).sum())
    return {"patients": len(labels), "tumoral": tumoral, "reactive": len(labels) - tumoral}


def _everybody(run: Run) -> Scores:
    """What a run of an earlier version tells, and what follows from its predictions."""
    pooled = score_fold(run.predictions["label"], run.predictions["probability"])
    n = counts(run)
    return {
        "balanced_accuracy": run.metrics["balanced_accuracy"],
        # Means over repeats, so that the widths are those of the patients there are.
        "sensitivity": proportion(pooled["sensitivity"] * n["tumoral"], n["tumoral"])._asdict(),
        "specificity": proportion(pooled["specificity"] * n["reactive"], n["reactive"])._asdict(),
        "auroc": run.metrics["auroc"],
        "brier": {"value": pooled["brier"], "low": None, "high": None},
    }
