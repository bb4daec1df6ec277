"""`comparison.json` read back, for the page of the runs that it compares."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.errors import InputError
from lymphoml.evaluation.pairs import SCORES
from lymphoml.evaluation.selection import Best
from lymphoml.report.comparison import Comparison, short_names
from lymphoml.report.comparison_tables import (
    NAMES,
    best_lines,
    detectable_lines,
    ordered,
    told_p,
)
from lymphoml.report.runs import Run, read_mapping

NUMBERS = ["value", "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm"]


def read_comparison(path: Path) -> Comparison:
    """Raises InputError where the file is damaged."""
    content = read_mapping(path)
    try:
        table = pd.DataFrame(content["runs"])
        table[NUMBERS] = table[NUMBERS].astype(float)  # None is NaN again
        return Comparison(
            reference=content["reference"],
            patients=content["n_patients"],
            table=table,
            best={score: Best(**_with_nan(content["best"][score])) for score in SCORES},
            detectable={
                score: _with_nan(content["smallest_detectable"][score]) for score in SCORES
            },
            clinical=content["clinical"],
            pretraining=content.get("pretraining", {}),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} is damaged; run python -m lymphoml compare again") from None


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
    comparison = replace(
        comparison,
        reference=words[comparison.reference],
        table=comparison.table.assign(run=comparison.table["run"].map(words)),
        best={key: best._replace(name=words[best.name]) for key, best in comparison.best.items()},
    )
    return {
        "state": "shown",
        "reference": comparison.reference,
        "tables": [(name, _rows(comparison, score)) for score, name in NAMES.items()],
        "lines": [*detectable_lines(comparison), *best_lines(comparison)],
    }


def _same(comparison: Comparison, runs: Mapping[str, Run]) -> bool:
    rows = comparison.table[comparison.table["score"] == "balanced_accuracy"]
    values = dict(zip(rows["run"], rows["value"], strict=True))
    named = {comparison.reference, *(best.name for best in comparison.best.values())}
    return (
        set(values) == set(runs)
        and named <= set(runs)
        and all(
            math.isclose(values[name], run.metrics["balanced_accuracy"]["value"], abs_tol=1e-9)
            for name, run in runs.items()
        )
    )


def _rows(comparison: Comparison, score: str) -> list[dict[Any, Any]]:
    return [
        row | {"p": told_p(row["p"]), "p_holm": told_p(row["p_holm"])}
        for row in ordered(comparison, score).to_dict("records")
    ]


def _with_nan(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in content.items()}
