"""A comparison for the terminal: a table a score, and what may be made of it in words."""

import math
from collections.abc import Iterator

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.report.comparison import Comparison, parts

HARD = ", hard stratum"
NAMES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    console = console or Console(soft_wrap=True)
    for stratum, part in parts(comparison).items():
        _print_part(part, "" if stratum == "everybody" else HARD, console)
    tried = comparison.table["run"].nunique()
    console.print(f"Configurations tried: {tried}, as far as these folders tell.")
    for line in pretraining_lines(comparison):
        console.print(line, markup=False)
    if comparison.drifted:
        drifted = ", ".join(comparison.drifted)
        console.print(
            f"Drifted while they were made: {drifted}; their pages say how.", markup=False
        )


def _print_part(comparison: Comparison, where: str, console: Console) -> None:
    for score in NAMES:
        console.print(_table(comparison, score, where))
    console.print(comparison.clinical, markup=False)
    tests = int(comparison.table["p"].notna().sum())
    console.print(
        f"{comparison.patients} patients, resampled within class; models as trained, so another "
        f"seed is in no interval. p: predictions swapped by patient; Holm over {tests} differences."
    )
    for line in detectable_lines(comparison):
        console.print(line)
    for line in best_lines(comparison):
        console.print(escape(line))


def detectable_lines(comparison: Comparison) -> Iterator[str]:
    for score, name in NAMES.items():
        of = comparison.detectable[score]
        if not math.isnan(of["one"]):
            yield (
                f"Smallest difference in {name} that these patients could show (80 % power, "
                f"two-sided 5 %, normal, runs that differ as these do): {of['one']:.3f} in one "
                f"planned comparison, {of['holm']:.3f} under Holm."
            )


def best_lines(comparison: Comparison) -> Iterator[str]:
    tried = comparison.table["run"].nunique()
    for score, name in NAMES.items():
        yield _best(comparison, score, name, tried)


def pretraining_lines(comparison: Comparison) -> Iterator[str]:
    for name, told in comparison.pretraining.items():
        yield f"{name}: {told}."


def ordered(comparison: Comparison, score: str) -> pd.DataFrame:
    """The rows of a score: the reference, then the highest first."""
    rows = comparison.table[comparison.table["score"] == score]
    is_reference = rows["run"] == comparison.reference
    return pd.concat(
        [rows[is_reference], rows[~is_reference].sort_values("value", ascending=False)]
    )


def _table(comparison: Comparison, score: str, where: str) -> Table:
    title = f"{NAMES[score]}{where}, out of fold; differences to {escape(comparison.reference)}"
    table = Table(title=title, title_justify="left")
    table.add_column("run", overflow="fold")
    for name in (f"{NAMES[score]} \\[95 %]", "difference \\[95 %]", "p", "Holm p"):
        table.add_column(name, justify="right")
    for _, row in ordered(comparison, score).iterrows():
        told = [escape(row["run"]), _interval(row, "value", "low", "high")]
        if row["run"] == comparison.reference:
            table.add_row(*told, "reference", "", "", end_section=True)
            continue
        difference = _interval(row, "difference", "difference_low", "difference_high", sign="+")
        table.add_row(*told, difference, told_p(row["p"]), told_p(row["p_holm"]))
    return table


def _best(comparison: Comparison, score: str, name: str, tried: int) -> str:
    best = comparison.best[score]
    line = f"Best of {tried} in {name}: {best.name}, {best.score:.3f}."
    if math.isnan(best.expected):
        return f"{line} Too few patients to say how much that flatters."
    return (
        f"{line} Being the best of {tried} flatters it by about {best.flattery:.3f}: expect "
        f"{best.expected:.3f} [{best.low:.3f}, {best.high:.3f}] of new patients (bootstrap bias "
        f"correction; its interval errs on the wide side)."
    )


def _interval(row: pd.Series, value: str, low: str, high: str, sign: str = "") -> str:
    return escape(
        f"{row[value]:{sign}.3f} [{row[low]:{sign}.3f}, {row[high]:{sign}.3f}]"
    )  # rich takes [nan, nan] for a style


def told_p(p: float) -> str:
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
