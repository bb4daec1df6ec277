"""What an audit reports and prints, without birth dates and paths outside the cohort."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.core.errors import printable
from lymphoml.core.privacy import hide_dates
from lymphoml.data.problems import Problem

SEVERITIES = ("error", "warning", "note")  # in the order of printing
EXIT_CODES = {"error": 2, "warning": 1, "note": 0}
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
MAX_PLACES = 3  # printed of a finding; audit.json holds all


@dataclass(frozen=True)
class Finding:
    """An `error` prevents training, a `warning` needs a person's judgement, a `note` informs.

    `where` lists files below the cohort's root, rows, cells or patients. `what` and `action` name
    no patient, so the HTML report may show them.
    """

    severity: str
    topic: str  # table, image, duplicate, person, site, date, range, class or shortcut
    what: str
    where: tuple[str, ...] = ()
    action: str = ""


def problem_finding(problem: Problem, root: Path) -> Finding:
    """Return a problem of reading the cohort as a finding; its private part goes to `where`."""
    path, row = problem.place
    table = "data.root" if path == root else below(path, root)
    where = [f"{table}, {row}" if row else table]
    if problem.private:
        private = problem.private
        where.append(below(private, root) if isinstance(private, Path) else private)
    what, *where = (hide_dates(printable(text)) for text in (problem.what, *where))
    return Finding("error", "table", what, tuple(where), problem.action)


def below(path: Path, root: Path) -> str:
    """Return a path relative to `root`, or its last part where it is elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def count(n: int, noun: str) -> str:
    """Return `1 image`, `1,000 images`."""
    return f"{n:,} {noun}{'s' if n != 1 else ''}"


def print_audit(content: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console()
    table = Table(title=f"Audit of {content['cohort']}", title_justify="left", show_lines=True)
    table.add_column("severity")
    table.add_column("finding, place, action", overflow="fold")
    for finding in content["findings"]:
        where, severity = finding["where"], finding["severity"]
        lines = [finding["what"], *(f"  {place}" for place in where[:MAX_PLACES])]
        if len(where) > MAX_PLACES:
            lines.append(f"  ... and {len(where) - MAX_PLACES:,} more")
        if finding["action"]:
            lines.append(f"→ {finding['action']}")
        table.add_row(severity, escape("\n".join(lines)), style=STYLES[severity])
    console.print(table)
    if "shortcuts" in content:
        _print_shortcuts(content["shortcuts"], content["hard_stratum"], console)
    counts = [count(n, severity) for severity, n in content["severities"].items()]
    images = content["images"]
    usable = f"{images['usable']:,} of {images['files']:,} images can be used"
    console.print(f"{', '.join(counts)}; {usable}", highlight=False)


def _print_shortcuts(
    shortcuts: dict[str, Any], stratum: dict[str, Any] | None, console: Console
) -> None:
    table = Table(title="Shortcut features", title_justify="left", box=SIMPLE)
    table.add_column("field", overflow="fold")
    for name in ("AUROC", "hard stratum", "p", "adjusted p"):
        table.add_column(name, no_wrap=name in ("AUROC", "hard stratum"))
    for field in shortcuts["fields"]:
        if field["status"] != "tested":
            table.add_row(escape(field["name"]), field["status"], style=STYLES["note"])
            continue
        aurocs = [escape(format_auroc(field[part])) for part in ("auroc", "hard")]
        p_values = [f"{field[name]:.2g}" for name in ("p", "p_adjusted")]
        style = STYLES["warning"] if field["flagged"] else ""
        table.add_row(escape(field["name"]), *aurocs, *p_values, style=style)
    console.print(table)
    lines = [
        f"AUROC with 95 % interval (DeLong), above 0.5 where high values mean tumoral. p: "
        f"{shortcuts['permutations']:,} permutations of the labels, two-sided; adjusted for all "
        f"fields (Westfall and Young), a warning below {shortcuts['level']:g}."
    ]
    if stratum:
        lines.append(
            f"hard stratum: {stratum['column']} at most {stratum['max']:g}, "
            f"{stratum['tumoral']} tumoral and {stratum['reactive']} reactive patients"
        )
    console.print("\n".join(lines), highlight=False, markup=False)


def format_auroc(auroc: dict[str, Any] | None) -> str:
    return f"{auroc['value']:.2f} [{auroc['low']:.2f}, {auroc['high']:.2f}]" if auroc else "-"
