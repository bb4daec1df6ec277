"""What a page of runs shows of the `comparison.json` beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lymphoml.errors import InputError
from lymphoml.report.comparison import Comparison, parts
from lymphoml.report.comparison_file import read_comparison
from lymphoml.report.comparison_tables import (
    HARD,
    NAMES,
    best_lines,
    detectable_lines,
    ordered,
    reference_words,
    told_p,
    tried_lines,
)
from lymphoml.report.names import short_names
from lymphoml.report.runs import Run


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
    shown = [("" if stratum == "everybody" else HARD, part) for stratum, part in renamed.items()]
    whole = renamed["everybody"]
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
