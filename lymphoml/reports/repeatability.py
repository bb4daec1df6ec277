"""How far decisions repeat with other cells of the same patients: in the terminal and report."""

from pathlib import Path
from typing import Any

from rich.table import Table

from lymphoml.evaluation.repeatability import FEW_FLIPS
from lymphoml.reports.format import format_estimate, format_score, wide_console
from lymphoml.reports.page import Choices
from lymphoml.runs.checksums import read_sealed, write_sealed
from lymphoml.runs.finished_run import Run

REPEATABILITY = "repeatability.json"
COLUMNS = ("Cells", "Patients", "Decisions that flip", "Sub-bags disagree", "ICC of the logit",
           "AUROC", "Minus all cells")  # fmt: skip


def section(run: Run, choices: Choices) -> dict[str, Any]:
    """The section of the report; empty where it was not measured."""
    content = read_sealed(run.path / REPEATABILITY, "repeatability")
    if content is None:
        return {}
    rows = [size_row(row) for row in content["sizes"]]
    return {"columns": COLUMNS, "rows": rows, "conclusion": conclude(content)}


def write_repeatability(run: Path, content: dict[str, Any]) -> None:
    """Write and print a row per size of sub-bag, and from how many cells few decisions flip."""
    write_sealed(run / REPEATABILITY, content)
    table, console = Table(*COLUMNS), wide_console()
    for row in content["sizes"]:
        table.add_row(*size_row(row))
    console.print(table)
    console.print(conclude(content), markup=False)


def size_row(row: dict[str, Any]) -> list[str]:
    """COLUMNS as text; shares of decisions in percent."""
    flips = [tuple(100 * row[key][each] for each in ("value", "low", "high"))
             for key in ("flips", "disagreements")]  # fmt: skip
    return [
        f"{row['cells']:g}" + (f" ({row['share']:.0%})" if row["share"] else ""),
        str(row["patients"]), *("{:.1f} % [{:.1f}, {:.1f}]".format(*each) for each in flips),
        format_estimate(row["icc"]), format_score(row["auroc"]["value"]),
        format_estimate(row["auroc_difference"], signed=True),
    ]  # fmt: skip


def conclude(content: dict[str, Any]) -> str:
    """From how many cells few decisions flip."""
    last, enough = size_row(content["sizes"][-1]), content["enough"]
    reached = (
        f"from {enough:g} cells on" if enough else f"not reached; {last[2]} with {last[0]} cells"
    )
    return f"Fewer than {FEW_FLIPS:.0%} of decisions flip: {reached}."
