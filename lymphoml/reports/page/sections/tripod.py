"""TRIPOD+AI (Collins et al. 2024): what the run itself answers, and what its authors still owe."""

from typing import Any

from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.scores import counts
from lymphoml.reports.page.sections.tripod_items import ITEMS
from lymphoml.reports.page.settings import flatten
from lymphoml.reports.page.wording import score, shown
from lymphoml.runs.finished_run import Run
from lymphoml.runs.triage_rule import read_rule

TITLE = "TRIPOD+AI"
FILLED, NOT_APPLICABLE, MISSING = "filled", "not applicable", "missing"
NO_UPDATE = "no model was updated"
ONE_COHORT = "cross-validation within one cohort; there are no separate evaluation data"
INAPPLICABLE = {
    "12d": "the run knows no clusters, such as hospitals",
    "12f": NO_UPDATE,
    "16": ONE_COHORT,
    "20c": ONE_COHORT,
    "23b": "the run knows no clusters, such as hospitals",
    "24": NO_UPDATE,
}


def content(run: Run, choices: Choices) -> dict[str, Any]:
    answers = _answers(run, choices)
    rows = []
    for number, topic, asked in ITEMS:
        if number in answers:
            rows.append((number, topic, asked, FILLED, answers[number]))
        elif number in INAPPLICABLE:
            rows.append((number, topic, asked, NOT_APPLICABLE, INAPPLICABLE[number]))
        else:
            rows.append((number, topic, asked, MISSING, "for the authors to write"))
    states = [row[3] for row in rows]
    return {
        "rows": rows,
        "counts": {state: states.count(state) for state in (FILLED, NOT_APPLICABLE, MISSING)},
    }


def _answers(run: Run, choices: Choices) -> dict[str, str]:
    """Only what the run folder states; a guess would read like a report."""
    data, flat, n = run.config["data"], flatten(run.config), counts(run)
    folds, repeats = data["folds"], run.repeat.nunique()
    weight = (run.config.get("loss") or {}).get("pos_weight")
    accuracy = run.metrics["balanced_accuracy"]
    answers = {
        "4": "development, with internal validation by cross-validation",
        "9b": _predictors(run),
        "12a": f"{folds}-fold cross-validation{f', {repeats} repeats' if repeats > 1 else ''}, "
        f"{_origin(data)}{_grouping(data)}",
        "12c": f"{flat.get('model', 'model')}, {_learning(run)}; the configuration stands below",
        "12e": "balanced accuracy with score intervals (Mee 1984), AUROC with DeLong's; "
        "ROC, precision-recall and reliability curves",
        "12g": "python predict.py run=RUN, the mean over the folds' models",
        "13": f"positive class weighed by {weight}" if weight else "none was used",
        "15": "a probability of being tumoral; called tumoral above 0.5, a threshold that was "
        "not tuned",
        "20a": f"{n['patients']} patients: {n['tumoral']} tumoral, {n['reactive']} reactive",
        "21": f"{n['patients']} patients and {n['tumoral']} events, each held out once a repeat",
        "22": "the weights of each fold in fold-K, the configuration in config.yaml",
        "23a": f"balanced accuracy {score(accuracy['value'])} ({score(accuracy['low'])} to "
        f"{score(accuracy['high'])})"
        + ("; subgroups above" if run.metrics.get("subgroups") else "; no subgroups"),
    }
    if members := run.config.get("ensemble"):
        answers["12c"] = (
            f"an ensemble of {len(members)} runs, {', '.join(members)}: the mean of their logits; "
            f"the first one's configuration stands below"
        )
        answers["12g"] = "python predict.py run=RUN, by the models of its members"
        answers["22"] = "the weights are the members'"
    if data.get("missing"):
        answers["11"] = {
            "error": "a patient with a missing value is refused",
            "impute": "median or most frequent value of the fold's training patients",
        }.get(data["missing"], shown(data["missing"]))
    if "standardize_clinical" in data:
        scaled = (
            "standardised on the training patients"
            if data["standardize_clinical"]
            else "as measured"
        )
        columns, used = data.get("columns", {}), data.get("clinical") or []
        logged = [name for name in used if columns.get(name, {}).get("log")]
        answers["12b"] = f"clinical values {scaled}" + (
            f"; logarithm of {', '.join(logged)}" if logged else ""
        )
    if choices.audit:
        answers["7"] = "see the audit of the data"
    if run.metrics.get("subgroups"):
        answers["14"] = "sensitivity and specificity by subgroup, above"
    if read_rule(run.path):
        answers["15"] += "; and a rule for triage, above"
    return answers


def _predictors(run: Run) -> str:
    fusion = flatten(run.config).get("model.fusion")
    images = [] if fusion == "ClinicalOnly" else ["images of cells"]
    clinical = [] if fusion == "NoClinical" else run.config["data"].get("clinical") or []
    return ", ".join([*images, *clinical])


def _origin(data: dict[str, Any]) -> str:
    """Of the folds; a configuration leaves out a file that lies elsewhere."""
    return "folds of a given file" if data.get("folds_csv", "?") else "stratified by label"


def _grouping(data: dict[str, Any]) -> str:
    """A person is suspected by birth date and sex (`data/cohort.py`): both must be declared."""
    kinds = {name: column.get("kind") for name, column in (data.get("columns") or {}).items()}
    told = "date_of_birth" in kinds.values() and kinds.get("sex") == "categorical"
    return "; suspected records of one person share a fold" if told else ""


def _learning(run: Run) -> str:
    flat = flatten(run.config)
    if flat.get("model.fusion.image_penalty") is not None:
        return "fitted to the training patients at once, by no optimiser"
    epochs = f"{flat.get('optim', 'optimiser')}, {flat.get('trainer.max_epochs', 'some')} epochs"
    if run.config["data"].get("inner_val_fraction"):
        return f"{epochs}, the one that counts chosen on an inner split"
    return f"{epochs}, the last one counts"
