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
    return {} if content is None else {"columns": COLUMNS} | describe(content)


def write_repeatability(run: Path, content: dict[str, Any]) -> None:
    """Write it, and print what the report shows."""
    write_sealed(run / REPEATABILITY, content)
    described, table, console = describe(content), Table(*COLUMNS), wide_console()
    for row in described["rows"]:
        table.add_row(*row)
    console.print(table)
    console.print(described["conclusion"], markup=False)


def describe(content: dict[str, Any]) -> dict[str, Any]:
    """Rows of COLUMNS as text, shares of decisions in percent; from how many cells few flip."""
    rows = []
    for row in content["sizes"]:
        flips = ({key: 100 * value for key, value in row[name].items()}
                 for name in ("flips", "disagreements"))  # fmt: skip
        rows.append([
            f"{row['cells']:g}" + (f" ({100 * row['share']:g} %)" if row["share"] else ""),
            str(row["patients"]),
            *("{value:.1f} % [{low:.1f}, {high:.1f}]".format(**each) for each in flips),
            format_estimate(row["icc"]), format_score(row["auroc"]["value"]),
            format_estimate(row["auroc_difference"], signed=True),
        ])  # fmt: skip
    reached, last = content["enough"], rows[-1]
    enough = f"from {reached:g} on" if reached else f"not reached; {last[2]} with {last[0]}"
    few = f"Fewer than {100 * FEW_FLIPS:g} % of decisions flip, by the number of cells"
    return {"rows": rows, "conclusion": f"{few}: {enough}."}
