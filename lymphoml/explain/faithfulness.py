"""`faithfulness.json`: means over patients of what the checks measured, and warnings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.files import write_json
from lymphoml.evaluation.pooled import mean_over_persons
from lymphoml.explain.checks import CEILING, CHECKS, MODELS, RANDOMISATION, RUN
from lymphoml.explain.randomised import rank_correlation
from lymphoml.explain.tables import ATTENTION, REGION, read_table

FAITHFULNESS = "faithfulness.json"
NUMBERS = ("value", "low", "high", "patients")
TRUTH, STEP = ("model", "method", "control", *NUMBERS), ("method", "step", *NUMBERS, "seed_spread")
IN_ORDER = {
    "cells_deletion": "removing cells in its order", "cells_insertion": "adding cells in its order",
    "places_deletion": "blurring pixels in its order",
    "places_insertion": "sharpening pixels in its order",
}  # fmt: skip
Entry = dict[str, Any]


def write_faithfulness(folder: Path, persons: pd.Series, counts: Entry, labelled: bool) -> Entry:
    """Write and return the summary of all parts.

    `persons` are of all patients; `labelled`: whether the ceiling is of patients with a label.
    """
    tables = [read_table(each) for each in sorted((folder / CHECKS).glob("*.csv"))]
    table = pd.concat(tables).astype({"value": float})
    table = table.sort_values("model", key=lambda names: names.map(MODELS.index), kind="stable")
    checks = [*_checks(table, persons)]
    ceiling = _ceiling(folder, persons)
    content = counts | {
        "checks": [each for each in checks if each["check"] not in ("truth", RANDOMISATION)],
        RANDOMISATION: [
            _picked(each | {"step": each["control"]}, STEP)
            for each in checks
            if each["check"] == RANDOMISATION
        ],
        "ceiling": {name: entry | {"labelled": labelled} for name, entry in ceiling.items()},
        "truth": [_picked(each, TRUTH) for each in checks if each["check"] == "truth"],
    }
    content["warnings"] = warnings(content)
    write_json(folder / FAITHFULNESS, content, private=True)  # it may be of one patient
    return content


def _checks(table: pd.DataFrame, persons: pd.Series) -> Iterator[Entry]:
    """Yield an entry for each area, and for its difference to each control within patients.

    Shares of the evidence have the other models as controls, too.
    """
    groups = dict([*table.groupby(["model", "method", "check"], sort=False)])
    own = {key: rows[rows["control"] == ""].set_index("patient")["value"]
           for key, rows in groups.items()}  # fmt: skip
    for (model, method, check), rows in groups.items():
        head = {"model": model, "method": method, "check": check}
        tail = {"seed_spread": None, "by_construction": bool(rows["by_construction"].iloc[0])}
        key = model, method, check
        for control, of_control in rows.groupby("control", sort=False):
            by_seed = of_control.pivot(index="patient", columns="seed", values="value")
            values = by_seed.mean(axis=1)
            if control and check != RANDOMISATION:
                values = own[key] - values
            spread = {"seed_spread": _rounded(by_seed.mean().std(ddof=1))}
            yield head | {"control": control or None} | _estimate(values, persons) | tail | spread
        of_region = model == RUN and str(check).startswith(REGION)
        others = {other: (other, method, check) for other in MODELS[1:] if of_region}
        if method != ATTENTION and check != RANDOMISATION:
            others[ATTENTION] = model, ATTENTION, check
        for control, other in others.items():
            if other in own:
                values = own[key] - own[other]
                yield head | {"control": control} | _estimate(values, persons) | tail


def _estimate(values: pd.Series, persons: pd.Series) -> Entry:
    known = values.dropna()
    estimate = mean_over_persons(known.to_numpy(float), persons[known.index].to_numpy())
    numbers = {name: _rounded(each) for name, each in estimate._asdict().items()}
    return numbers | {"patients": len(known)}


def _rounded(value: float) -> float | None:
    return round(float(value), 6) + 0.0 if np.isfinite(value) else None


def _picked(entry: Entry, keys: Sequence[str]) -> Entry:
    return {key: entry[key] for key in keys}


def _ceiling(folder: Path, persons: pd.Series) -> dict[str, Entry]:
    """Return by method the rank correlation of two folds' models, mean over pairs."""
    parts = [np.load(each) for each in sorted((folder / CEILING).glob("*.npz"))]
    rows = []
    for key in parts[0] if parts else ():
        method, patient = key.split("/", 1)
        pairs = combinations([each[key] for each in parts], 2)
        found = [rank_correlation(*pair) for pair in pairs]
        known = [each for each in found if np.isfinite(each)]
        rows.append((method, patient, np.mean(known) if known else np.nan))
    table = pd.DataFrame(rows, columns=["method", "patient", "value"])
    return {str(method): _estimate(each.set_index("patient")["value"], persons)
            for method, each in table.groupby("method", sort=False)}  # fmt: skip


def warnings(content: Mapping[str, Any]) -> dict[str, str]:
    """Return a sentence for each method that is not above its controls, or needs no training."""
    reasons: dict[str, list[str]] = {}
    failed: dict[tuple[str, str], list[str]] = {}
    for row in content["checks"]:
        tested = row["model"] == RUN and row["control"] not in (None, "attention")
        tested = tested and not row["check"].startswith(REGION)
        if tested and not row["by_construction"] and not (row["low"] or 0) > 0:
            failed.setdefault((row["method"], row["check"]), []).append(row["control"])
    for (method, check), controls in failed.items():
        names = ", ".join(controls).replace("_", " ")
        reasons.setdefault(method, []).append(f"{IN_ORDER[check]} is not better than {names}")
    last = {row["method"]: row["value"] for row in content[RANDOMISATION]}
    for method, value in last.items():
        least = content["ceiling"].get(method, {}).get("low")
        if value is not None and least is not None and value >= least:
            text = f"untrained it correlates {value:.2f} with itself, two folds from {least:.2f}"
            reasons.setdefault(method, []).append(text)
    for method in last.keys() - {row["method"] for row in content["checks"]}:
        reasons[method] = ["no patient has two images"]
    return {method: f"Not shown to be faithful: {'; '.join(each)}."
            for method, each in reasons.items()}  # fmt: skip


def print_summary(content: Mapping[str, Any]) -> None:
    """Print the run's differences to controls, the end of the cascade, truth and warnings."""
    print(f"Faithfulness, {content['patients']} patients, in logits [95 % interval]:")
    for row in content["checks"]:
        note = " (by construction)" if row["by_construction"] else ""
        if row["model"] == RUN and (row["control"] or row["check"] not in IN_ORDER):
            less = f" less {row['control']}" if row["control"] else ""
            _print(row, row["check"] + less, note)
    for row in {row["method"]: row for row in content[RANDOMISATION]}.values():
        ceiling = content["ceiling"].get(row["method"])
        note = f" (ceiling {_interval(ceiling)})" if ceiling else ""
        _print(row, "correlation, untrained", note)
    for row in content["truth"]:
        _print(row, f"AUROC, {row['model']}" + (" less attention" if row["control"] else ""))
    for method, sentence in content["warnings"].items():
        print(f"  warning: {method}: {sentence}")


def _print(row: Entry, what: str, note: str = "") -> None:
    print(f"  {row['method']:13} {what:36} {_interval(row)}{note}")


def _interval(row: Mapping[str, Any]) -> str:
    texts = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("value", "low", "high")]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"
