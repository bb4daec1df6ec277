"""The sections of what to know about a run: what was tried, audit, TRIPOD+AI, configuration.

tripod.csv has the 52 items of Collins et al. 2024, BMJ 385:e078378, table 2, in short, each with a
template of the answer: empty for the authors to write, `n/a:` where not applicable.
"""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_mapping
from lymphoml.reports.comparison.sweep import sweep_chart
from lymphoml.reports.format import format_estimate, format_setting
from lymphoml.reports.page import Choices
from lymphoml.reports.results import count_patients
from lymphoml.reports.run_labels import flatten
from lymphoml.reports.validation import VALIDATION
from lymphoml.runs.finished_run import Run, read_run, siblings
from lymphoml.runs.provenance import data_fingerprint, split_fingerprint
from lymphoml.runs.test_set_log import count_uses
from lymphoml.runs.triage_rule import read_rule

MAX_FINDINGS = 30
ORDER = {"error": 0, "warning": 1, "note": 2, "info": 3, "ok": 4}  # of findings' severities
ITEMS = Path(__file__).with_name("tripod.csv")
MISSING = {"error": "patients with missing values are an error",
           "impute": "median or most frequent value of the fold's training patients"}  # fmt: skip
ENVIRONMENT = {"git commit": "git_commit", "data fingerprint": "data_fingerprint",
               "hardware": "hardware", "arithmetic": "settings"}  # fmt: skip
UNKNOWN = "not recorded"


def multiplicity(run: Run, choices: Choices) -> dict[str, Any]:
    """How many configurations were tried, and how often the test set was used."""
    paths, comparable = siblings(run.path), [run]
    for path in paths:
        try:
            other = read_run(path)
        except InputError:
            continue
        if path != run.path.resolve() and _folds(other) == _folds(run):
            comparable.append(other)
    return {
        "tried": len(paths), "comparable": len(comparable),
        "chart": sweep_chart(comparable) if len(comparable) > 1 else None,
        "uses": count_uses(paths),
    }  # fmt: skip


def _folds(run: Run) -> set[tuple[str, int]]:
    return set(zip(run.folds["patient"], run.folds["fold"], strict=True))


def audit(run: Run, choices: Choices) -> dict[str, Any]:
    """What was found, without where: that would name patients. Raises InputError."""
    if choices.audit is None:
        return {"audited": False}
    content = read_mapping(choices.audit, "give an audit.json")
    findings = content.get("findings")
    if not isinstance(findings, list) or not all(isinstance(each, dict) for each in findings):
        raise InputError(f"audit={choices.audit}: no list of findings; give an audit.json")
    table, images = split_fingerprint(str(data_fingerprint(run.environment)))
    known, found = [table], [content.get("fingerprint")]
    if images is not None and not (run.config["data"].get("features") or {}).get("path"):
        known.append(images)
        found.append(content.get("images_fingerprint"))
    comparable = bool(table) and None not in found
    if table and any(one not in (None, other) for one, other in zip(found, known, strict=True)):
        raise InputError(
            f"audit={choices.audit}: an audit of another cohort than the run's; audit again with "
            f"the run's data.root and columns"
        )
    keys = ("severity", "unknown"), ("topic", ""), ("what", "")
    triples = [tuple(str(each.get(*key)) for key in keys) for each in findings]
    rows = sorted(Counter(triples).items(), key=lambda row: ORDER.get(row[0][0], len(ORDER)))
    severities = Counter(severity for severity, _, _ in triples)
    return {
        "audited": True,
        "same_cohort_checked": comparable,
        "severities": sorted(severities.items(), key=lambda pair: ORDER.get(pair[0], len(ORDER))),
        "rows": [(*finding, count) for finding, count in rows[:MAX_FINDINGS]],
        "more": max(0, len(rows) - MAX_FINDINGS),
    }


def configuration(run: Run, choices: Choices) -> dict[str, Any]:
    """Every setting that affects the results, and the command that reproduces the run."""
    groups: dict[str, dict[str, str]] = {}
    for key, value in flatten(run.config).items():
        group, _, name = key.partition(".")
        place = group if isinstance(run.config.get(group), dict) else "run"
        groups.setdefault(place, {})[name or group] = format_setting(value)
    known = run.environment
    return {
        "changes": run.changes,
        "settings": groups,
        "command": known.get("command"),
        "environment": {title: known.get(key) or UNKNOWN for title, key in ENVIRONMENT.items()},
        "versions": known.get("versions") or {"packages": UNKNOWN},
    }


def tripod(run: Run, choices: Choices) -> dict[str, Any]:
    """TRIPOD+AI: the items that the run itself answers, and those left to its authors."""
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
    return {"rows": rows, "counts": Counter(row[3] for row in rows)}


def _fields(run: Run, choices: Choices) -> dict[str, Any]:
    """What the run folder records; empty where it does not."""
    data, flat, repeats = run.config["data"], flatten(run.config), run.repeat.nunique()
    weight = (run.config.get("loss") or {}).get("pos_weight")
    subgroups = bool(run.metrics["subgroups"])
    model, owner = f"{flat.get('model', 'model')}, {_training(data, flat)}", "all folds"
    if members := run.config.get("ensemble"):
        owner = "its members"
        model = (f"an ensemble of {len(members)} runs, {', '.join(members)}: mean of their logits; "
                 f"of the first one: {model}")  # fmt: skip
    columns, fusion = data.get("columns") or {}, flat.get("model.fusion")
    images = [] if fusion == "ClinicalOnly" else ["images of cells"]
    clinical = [] if fusion == "NoClinical" else data.get("clinical") or []
    persons = run.metrics.get("persons") or {}
    rule, split = persons.get("rule"), persons.get("in_several_folds")
    origin, grouping = "stratified by label", f"records of one person, by {rule}, share a fold"
    if split is not None:
        origin = "shuffled, not stratified"
        grouping = f"of persons, by {rule}, {split} are both trained on and held out"
    evaluated = (run.path / VALIDATION).is_file()
    none = "n/a: cross-validation within one cohort; no separate evaluation data"
    return count_patients(run) | {
        "evaluation": "see validation on other cohorts" if evaluated else none,
        "external": " and validation on other patients" if evaluated else "",
        "clusters": "see the scores of each site"
        if run.metrics.get("sites")
        else "n/a: the run has no clusters, such as hospitals",
        "audit": "see the audit of the data" if choices.audit else "",
        "predictors": ", ".join([*images, *clinical]),
        "missing": MISSING.get(data.get("missing"), ""),
        "folds": data["folds"],
        "repeats": f", {repeats} repeats" if repeats > 1 else "",
        "origin": "one site left out at a time"
        if data.get("site_folds")
        else "folds from a file"
        if data.get("folds_csv", "?")
        else origin,
        "grouping": f"; {grouping}" if rule else "",
        "drawn": f"; {size} training patients a fold" if (size := data.get("train_size")) else "",
        "clinical": _clinical(data, columns),
        "model": model,
        "owner": owner,
        "weights": f"loss weight of the positive class: {weight}" if weight else "none",
        "fairness": "sensitivity and specificity by subgroup, above" if subgroups else "",
        "triage": "; and a rule-out rule, above" if read_rule(run.path) else "",
        "accuracy": format_estimate(run.metrics["balanced_accuracy"]),
        "subgroups": "; subgroups above" if subgroups else "; no subgroups",
    }


def _clinical(data: dict[str, Any], columns: dict[str, Any]) -> str:
    if "standardize_clinical" not in data:
        return ""
    scaled = "standardized on training patients" if data["standardize_clinical"] else "as measured"
    logged = [name for name in data["clinical"] or [] if columns.get(name, {}).get("log")]
    return f"clinical values {scaled}" + (f"; logarithm of {', '.join(logged)}" if logged else "")


def _training(data: dict[str, Any], flat: dict[str, Any]) -> str:
    if flat.get("model.fusion.image_penalty") is not None:
        return "fitted to all training patients at once, without an optimiser"
    epoch = "the one selected on an inner split is reported"
    if not data.get("inner_val_fraction"):
        epoch = "the last one is reported"
    return f"{flat.get('optim', 'optimiser')}, {flat.get('trainer.max_epochs')} epochs, {epoch}"
