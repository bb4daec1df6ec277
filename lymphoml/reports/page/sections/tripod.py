"""TRIPOD+AI: the items that the run itself answers, and those left to its authors.

tripod.csv has the 52 items of Collins et al. 2024, BMJ 385:e078378, table 2, in short, each with a
template of the answer: empty for the authors to write, `n/a:` where not applicable.
"""

import csv
from pathlib import Path
from typing import Any

from lymphoml.reports.format import format_estimate
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.results import count_patients
from lymphoml.reports.run_labels import flatten
from lymphoml.runs.finished_run import Run
from lymphoml.runs.triage_rule import read_rule

TITLE = "TRIPOD+AI"
ITEMS = Path(__file__).with_name("tripod.csv")
MISSING = {"error": "patients with missing values are an error",
           "impute": "median or most frequent value of the fold's training patients"}  # fmt: skip


def content(run: Run, choices: Choices) -> dict[str, Any]:
    fields = _fields(run, choices)
    rows = []
    with ITEMS.open(encoding="utf-8", newline="") as file:
        for item, section, asks_for, template in list(csv.reader(file))[1:]:
            state, answer = "filled", template.format(**fields)
            if answer.startswith("n/a: "):
                state, answer = "not applicable", answer.removeprefix("n/a: ")
            elif not answer:
                state, answer = "missing", "for the authors to write"
            rows.append((item, section, asks_for, state, answer))
    states = [row[3] for row in rows]
    return {"rows": rows, "counts": {state: states.count(state) for state in sorted(set(states))}}


def _fields(run: Run, choices: Choices) -> dict[str, Any]:
    """What the run folder records; empty where it does not."""
    data, flat, repeats = run.config["data"], flatten(run.config), run.repeat.nunique()
    weight = (run.config.get("loss") or {}).get("pos_weight")
    subgroups = bool(run.metrics["subgroups"])
    model, owner = f"{flat.get('model', 'model')}, {_training(run, flat)}", "all folds"
    if members := run.config.get("ensemble"):
        owner = "its members"
        model = (
            f"an ensemble of {len(members)} runs, {', '.join(members)}: mean of their logits; of "
            f"the first one: {model}"
        )
    return count_patients(run) | {
        "audit": "see the audit of the data" if choices.audit else "",
        "predictors": _predictors(data, flat.get("model.fusion")),
        "missing": MISSING.get(data.get("missing"), ""),
        "folds": data["folds"],
        "repeats": f", {repeats} repeats" if repeats > 1 else "",
        "origin": "folds from a file" if data.get("folds_csv", "?") else "stratified by label",
        "grouping": _grouping(data),
        "clinical": _clinical(data),
        "model": model,
        "owner": owner,
        "weights": f"loss weight of the positive class: {weight}" if weight else "none",
        "fairness": "sensitivity and specificity by subgroup, above" if subgroups else "",
        "triage": "; and a rule-out rule, above" if read_rule(run.path) else "",
        "accuracy": format_estimate(run.metrics["balanced_accuracy"]),
        "subgroups": "; subgroups above" if subgroups else "; no subgroups",
    }


def _predictors(data: dict[str, Any], fusion: str | None) -> str:
    images = [] if fusion == "ClinicalOnly" else ["images of cells"]
    clinical = [] if fusion == "NoClinical" else data.get("clinical") or []
    return ", ".join([*images, *clinical])


def _grouping(data: dict[str, Any]) -> str:
    """Records of one person are suspected by birth date and sex: both must be columns."""
    kinds = {name: column.get("kind") for name, column in (data.get("columns") or {}).items()}
    grouped = "date_of_birth" in kinds.values() and kinds.get("sex") == "categorical"
    return "; suspected records of one person share a fold" if grouped else ""


def _clinical(data: dict[str, Any]) -> str:
    if "standardize_clinical" not in data:
        return ""
    scaled = "standardized on training patients" if data["standardize_clinical"] else "as measured"
    columns = data.get("columns", {})
    logged = [name for name in data["clinical"] or [] if columns.get(name, {}).get("log")]
    return f"clinical values {scaled}" + (f"; logarithm of {', '.join(logged)}" if logged else "")


def _training(run: Run, flat: dict[str, Any]) -> str:
    if flat.get("model.fusion.image_penalty") is not None:
        return "fitted to all training patients at once, without an optimiser"
    epoch = "the one selected on an inner split is reported"
    if not run.config["data"].get("inner_val_fraction"):
        epoch = "the last one is reported"
    return f"{flat.get('optim', 'optimiser')}, {flat.get('trainer.max_epochs')} epochs, {epoch}"
