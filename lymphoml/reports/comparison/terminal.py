"""A comparison for the terminal: a table a score, and what may be made of it in words."""

import math
from collections.abc import Iterator

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.reports.comparison.result import Comparison, parts
from lymphoml.reports.page.wording import baseline_name

HARD = ", hard stratum"
NAMES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    console = console or Console(soft_wrap=True)
    for stratum, part in parts(comparison).items():
        _print_part(part, "" if stratum == "all" else HARD, console)
    for line in tried_lines(comparison):
        console.print(line)
    if comparison.drifted:
        drifted = ", ".join(comparison.drifted)
        console.print(
            f"Drifted while they were made: {drifted}; their pages say how.", markup=False
        )


def _print_part(comparison: Comparison, where: str, console: Console) -> None:
    for score in NAMES:
        console.print(_table(comparison, score, where))
    console.print(comparison.clinical, markup=False)
    console.print(
        f"{comparison.patients} patients, resampled within class; models as trained, so another "
        f"seed is in no interval. p: predictions swapped by patient; Holm over {comparison.tests} "
        f"differences, within each stratum."
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
    """None of a single run: nobody chose it."""
    if comparison.table["run"].nunique() > 1:
        for score, name in NAMES.items():
            yield _best(comparison, score, name)


def tried_lines(comparison: Comparison) -> Iterator[str]:
    """How many configurations were tried, and what is corrected for those that are not here."""
    tried, unseen = comparison.tried, comparison.unseen
    if not unseen:
        yield f"Configurations tried: {tried}, as far as these folders tell."
        return
    verb = "is" if unseen == 1 else "are"
    yield (
        f"Configurations tried: {tried}, as given; {unseen} of them {verb} not here. Holm counts "
        f"two differences of each, at p = 1; what choosing among them flattered is in no expected "
        f"score or gain."
    )


def reference_words(comparison: Comparison) -> str:
    name = comparison.reference
    return name if comparison.baseline is None else baseline_name(name)


def ordered(comparison: Comparison, score: str) -> pd.DataFrame:
    """The rows of a score: the reference, which `is_reference` marks, then the highest first."""
    rows = comparison.table[comparison.table["score"] == score]
    rows = rows.sort_values("value", ascending=False).assign(is_reference=False)
    if comparison.baseline is None:
        mine = rows["run"] == comparison.reference
        return pd.concat([rows[mine].assign(is_reference=True), rows[~mine]])
    first = {"run": reference_words(comparison), "is_reference": True, **comparison.baseline[score]}
    return pd.concat([pd.DataFrame([first]), rows])


def _table(comparison: Comparison, score: str, where: str) -> Table:
    reference = escape(reference_words(comparison))
    title = f"{NAMES[score]}{where}, out of fold; differences to {reference}"
    table = Table(title=title, title_justify="left")
    table.add_column("run", overflow="fold")
    for name in (f"{NAMES[score]} \\[95 %]", "difference \\[95 %]", "p", "Holm p"):
        table.add_column(name, justify="right")
    for _, row in ordered(comparison, score).iterrows():
        told = [escape(row["run"]), _interval(row, "value", "low", "high")]
        if row["is_reference"]:
            kind = "reference" if comparison.baseline is None else "baseline"
            table.add_row(*told, kind, "", "", end_section=True)
            continue
        difference = _interval(row, "difference", "difference_low", "difference_high", sign="+")
        table.add_row(*told, difference, told_p(row["p"]), told_p(row["p_holm"]))
    return table


def _best(comparison: Comparison, score: str, name: str) -> str:
    best, here = comparison.best[score], comparison.table["run"].nunique()
    line = f"Best of {here} in {name}: {best.name}, {best.score:.3f}."
    if math.isnan(best.expected):
        return f"{line} Too few patients to say how much that flatters."
    told = f"expect {best.expected:.3f} [{best.low:.3f}, {best.high:.3f}] of new patients"
    if best.gain is not None:
        gain = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*best.gain)
        told += f", {gain} over {reference_words(comparison)}"
    return (
        f"{line} Being the best of {here} flatters it by about {best.optimism:.3f}: {told} "
        f"(bootstrap bias correction; its intervals err on the wide side)."
    )


def _interval(row: pd.Series, value: str, low: str, high: str, sign: str = "") -> str:
    return escape(
        f"{row[value]:{sign}.3f} [{row[low]:{sign}.3f}, {row[high]:{sign}.3f}]"
    )  # rich takes [nan, nan] for a style


def told_p(p: float) -> str:
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
