"""`comparison.json` and `comparison.csv`, and the former read back."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.files import write_csv, write_json
from lymphoml.evaluation.intervals import Estimate
from lymphoml.evaluation.paired import PAIR_SCORES
from lymphoml.evaluation.selection import Best
from lymphoml.evaluation.summary import to_json
from lymphoml.reports.comparison.result import Comparison, parts
from lymphoml.runs.finished_run import read_mapping

NUMBERS = ["value", "low", "high", "difference", "difference_low", "difference_high", "p",
           "p_holm", "detectable"]  # fmt: skip


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """`comparison.json`, everything, and `comparison.csv`, the tables, below `folder`."""
    table, content = folder / "comparison.csv", folder / "comparison.json"
    tables = [
        part.table.assign(stratum=name, reference=part.reference)
        for name, part in parts(comparison).items()
    ]
    write_csv(table, pd.concat(tables))
    hard = comparison.hard and _told(comparison.hard)
    write_json(content, to_json(_told(comparison) | {"hard": hard}))
    return [content, table]


def _told(comparison: Comparison) -> dict[str, Any]:
    return {
        "reference": comparison.reference,
        "baseline": comparison.baseline,
        "n_patients": comparison.patients,
        "configurations_tried": comparison.tried,
        "tests": comparison.tests,
        "clinical": comparison.clinical,
        "drifted": list(comparison.drifted),
        "runs": comparison.table.to_dict("records"),
        "smallest_detectable": comparison.detectable,
        "best": {
            score: best._asdict() | {"gain": best.gain and best.gain._asdict()}
            for score, best in comparison.best.items()
        },
    }


def read_comparison(path: Path) -> Comparison:
    """Raises InputError where the file is damaged."""
    content = read_mapping(path)
    try:
        hard = content.get("hard")  # an earlier version's tells of none
        return replace(_part(content), hard=None if hard is None else _part(hard))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} is damaged; run python -m lymphoml compare again") from None


def _part(content: Mapping[str, Any]) -> Comparison:
    table = pd.DataFrame(content["runs"])
    table[NUMBERS] = table[NUMBERS].astype(float)  # None is NaN again
    baseline = content.get("baseline")  # an earlier version knows none
    return Comparison(
        reference=str(content["reference"]),
        patients=int(content["n_patients"]),
        tried=int(content["configurations_tried"]),
        table=table,
        best={score: _best(content["best"][score]) for score in PAIR_SCORES},
        clinical=str(content["clinical"]),
        baseline=baseline and {score: _numbers(baseline[score]) for score in PAIR_SCORES},
    )


def _best(content: Mapping[str, Any]) -> Best:
    numbers = {key: value for key, value in content.items() if key not in ("name", "gain")}
    gain = content.get("gain")  # as above
    return Best(
        name=str(content["name"]),
        **_numbers(numbers),
        gain=None if gain is None else Estimate(**_numbers(gain)),
    )


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    return {key: math.nan if value is None else float(value) for key, value in content.items()}
