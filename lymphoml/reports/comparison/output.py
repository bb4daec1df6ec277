"""Print a comparison, and write it to comparison.json and comparison.csv."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.core.files import write_csv, write_json
from lymphoml.evaluation.paired import LEVEL
from lymphoml.evaluation.summary import to_json
from lymphoml.reports.comparison.compare import DIFFERENCE, Comparison, Stratum
from lymphoml.reports.format import format_estimate, format_p, format_score
from lymphoml.reports.results import STRATA

NAMES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    for name, stratum in comparison.strata.items():
        where = "" if name == "all" else f", {STRATA[name]}"
        for score in NAMES:
            console.print(_table(comparison, stratum, score, where))
        console.print(
            f"{stratum.n_patients} patients, bootstrap within class. p: permutation of predictions "
            f"within patients; Holm over {stratum.n_tests} differences in this stratum. Training "
            f"variance (another seed) is not included."
        )
        for line in [*detectable_lines(stratum), *best_lines(comparison, stratum)]:
            console.print(line, markup=False)
    for line in run_lines(comparison):
        console.print(line, markup=False)


def difference_of(row: Any) -> dict[str, float]:
    """The columns of a row about its difference, as value, low and high."""
    return {name: row[column] for name, column in DIFFERENCE.items()}


def detectable_lines(stratum: Stratum) -> Iterator[str]:
    for score, name in NAMES.items():
        smallest = stratum.smallest_detectable[score]
        if not math.isnan(smallest["single"]):
            yield (
                f"Smallest detectable difference in {name} (80 % power, two-sided 5 %): "
                f"{smallest['single']:.3f} in one planned comparison, {smallest['holm']:.3f} under "
                f"Holm."
            )


def best_lines(comparison: Comparison, stratum: Stratum) -> Iterator[str]:
    """The optimism of picking the best run, by score; nothing for a single run."""
    n = len(comparison.runs)
    for score, best in stratum.best.items() if n > 1 else ():
        line = f"Best of {n} in {NAMES[score]}: {best.name}, {best.score:.3f}."
        if math.isnan(best.expected):
            yield f"{line} Too few patients to estimate the optimism of picking it."
            continue
        expected, gain = {"value": best.expected, "low": best.low, "high": best.high}, ""
        if best.gain is not None:
            gain = format_estimate(best.gain._asdict(), signed=True)
            gain = f", gain over {comparison.reference} {gain}"
        yield (
            f"{line} Optimism of picking the best of {n}: {format_score(best.optimism)}. Expected "
            f"in new patients: {format_estimate(expected)}{gain} (bootstrap bias correction, "
            f"BBC-CV; conservative)."
        )


def run_lines(comparison: Comparison) -> Iterator[str]:
    """How many configurations were tried, and what to know of single runs."""
    tried, missing = comparison.tried, comparison.not_given
    if missing:
        yield (
            f"Configurations tried: {tried} (given by tried=), {missing} of them not here. Holm's "
            f"correction counts their differences at p = 1; the optimism above does not."
        )
    else:
        yield f"Configurations tried: {tried} in these folders."
    if changed := [name for name, run in comparison.runs.items() if run.changes]:
        yield f"Resumed in a changed environment (see their reports): {', '.join(changed)}."


def pair_lines(comparison: Comparison, pairs: pd.DataFrame) -> Iterator[str]:
    """How many pairs of runs differ after Holm's correction, by score, and which."""
    for score, rows in pairs.groupby("score", sort=False):
        differ = rows[rows["p_holm"] <= LEVEL]
        yield (
            f"{len(differ)} of {len(rows)} pairs of runs differ in {NAMES[str(score)]} (p <= "
            f"{LEVEL:g} after Holm's correction over {comparison.n_pair_tests} differences)"
        )
        records: list[dict[str, Any]] = differ.to_dict("records")  # type: ignore[assignment]
        for row in records:
            difference = format_estimate(row, signed=True)
            yield f"  {row['run']} - {row['other']}: {difference}, Holm p {format_p(row['p_holm'])}"


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `comparison.json` and `comparison.csv` below `folder`; return both paths."""
    table, content = folder / "comparison.csv", folder / "comparison.json"
    reference, strata = comparison.reference, comparison.strata.items()
    tables = [part.table.assign(stratum=name, reference=reference) for name, part in strata]
    write_csv(table, pd.concat(tables))
    values = {
        "reference": reference, "reference_is_baseline": comparison.is_baseline,
        "configurations_tried": comparison.tried,
        "changed_environment": [name for name, run in comparison.runs.items() if run.changes],
        "strata": {
            name: {
                "n_patients": stratum.n_patients, "n_tests": stratum.n_tests,
                "results": stratum.table.to_dict("records"),
                "smallest_detectable": stratum.smallest_detectable,
                "best": {score: best._asdict() | {"gain": best.gain and best.gain._asdict()}
                         for score, best in stratum.best.items()},
            }
            for name, stratum in strata
        },
    }  # fmt: skip
    write_json(content, to_json(values))
    return [content, table]


def _table(comparison: Comparison, stratum: Stratum, score: str, where: str) -> Table:
    title = f"{NAMES[score]}{where}, out of fold; difference from {escape(comparison.reference)}"
    table = Table(title=title, title_justify="left")
    table.add_column("run", overflow="fold")
    for name in (f"{NAMES[score]} \\[95 %]", "difference \\[95 %]", "p", "Holm p"):
        table.add_column(name, justify="right")
    rows: list[dict[str, Any]] = stratum.table[stratum.table["score"] == score].to_dict("records")  # type: ignore[assignment]
    for row in rows:
        cells = [escape(row["run"]), escape(format_estimate(row))]
        if row["is_reference"]:
            kind = "baseline" if comparison.is_baseline else "reference"
            table.add_row(*cells, kind, "", "", end_section=True)
        else:
            difference = escape(format_estimate(difference_of(row), signed=True))
            table.add_row(*cells, difference, format_p(row["p"]), format_p(row["p_holm"]))
    return table
