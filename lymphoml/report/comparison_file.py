"""`comparison.json` and `.csv`, and the former read back for the page of the runs it compares."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.errors import InputError
from lymphoml.evaluation.pairs import SCORES
from lymphoml.evaluation.selection import Best
from lymphoml.evaluation.summary import plain
from lymphoml.files import write_csv, write_json
from lymphoml.report.comparison import Comparison, parts, short_names
from lymphoml.report.comparison_tables import (
    HARD,
    NAMES,
    best_lines,
    detectable_lines,
    ordered,
    told_p,
)
from lymphoml.report.runs import Run, read_mapping

NUMBERS = ["value", "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm"]


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """`comparison.json`, everything, and `comparison.csv`, the tables, below `folder`."""
    table, content = folder / "comparison.csv", folder / "comparison.json"
    tables = [part.table.assign(stratum=name) for name, part in parts(comparison).items()]
    write_csv(table, pd.concat(tables))
    hard = comparison.hard and _told(comparison.hard)
    write_json(content, plain(_told(comparison) | {"hard": hard}))
    return [content, table]


def _told(comparison: Comparison) -> dict[str, Any]:
    return {
        "reference": comparison.reference,
        "n_patients": comparison.patients,
        "configurations_tried": comparison.table["run"].nunique(),
        "clinical": comparison.clinical,
        "drifted": list(comparison.drifted),
        "pretraining": dict(comparison.pretraining),
        "runs": comparison.table.to_dict("records"),
        "smallest_detectable": comparison.detectable,
        "best": {score: best._asdict() for score, best in comparison.best.items()},
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
    return Comparison(
        reference=content["reference"],
        patients=content["n_patients"],
        table=table,
        best={score: Best(**_with_nan(content["best"][score])) for score in SCORES},
        detectable={score: _with_nan(content["smallest_detectable"][score]) for score in SCORES},
        clinical=content["clinical"],
        pretraining=content.get("pretraining", {}),
    )


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
    shown = [
        ("" if stratum == "everybody" else HARD, _renamed(part, words))
        for stratum, part in parts(comparison).items()
    ]
    return {
        "state": "shown",
        "reference": words[comparison.reference],
        "tables": [
            (name + where, _rows(part, score)) for where, part in shown
            for score, name in NAMES.items()
        ],
        "lines": [
            f"{where.removeprefix(', ').capitalize()}: {line}" if where else line
            for where, part in shown
            for line in (*detectable_lines(part), *best_lines(part))
        ],
    }  # fmt: skip


def _renamed(comparison: Comparison, words: Mapping[str, str]) -> Comparison:
    return replace(
        comparison,
        reference=words[comparison.reference],
        table=comparison.table.assign(run=comparison.table["run"].map(words)),
        best={key: best._replace(name=words[best.name]) for key, best in comparison.best.items()},
    )


def _same(comparison: Comparison, runs: Mapping[str, Run]) -> bool:
    rows = comparison.table[comparison.table["score"] == "balanced_accuracy"]
    values = dict(zip(rows["run"], rows["value"], strict=True))
    told = parts(comparison).values()
    named = {name for part in told for name in part.table["run"]}
    named |= {part.reference for part in told}
    named |= {best.name for part in told for best in part.best.values()}
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
