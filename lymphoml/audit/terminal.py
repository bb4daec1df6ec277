"""An audit in the terminal: the findings, most severe first, and the table of shortcuts."""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.audit.findings import count
from lymphoml.audit.shortcuts import format_auroc

MAX_PLACES = 3  # shown of a finding; audit.json holds all
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


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
    console.print(
        f"{', '.join(counts)}; {images['usable']:,} of {images['files']:,} images can be used",
        highlight=False,
    )


def _print_shortcuts(
    shortcuts: dict[str, Any], stratum: dict[str, Any] | None, console: Console
) -> None:
    table = Table(title="Shortcut features", title_justify="left", box=SIMPLE)
    table.add_column("field", overflow="fold")
    for name in ("AUROC", "hard stratum"):
        table.add_column(name, no_wrap=True)
    for name in ("p", "adjusted p"):
        table.add_column(name)
    for field in shortcuts["fields"]:
        if field["status"] != "tested":
            table.add_row(escape(field["name"]), field["status"], style=STYLES["note"])
            continue
        table.add_row(
            escape(field["name"]),
            *("-" if auroc is None else escape(format_auroc(auroc))
              for auroc in (field["auroc"], field["hard"])),
            f"{field['p']:.2g}",
            f"{field['p_adjusted']:.2g}",
            style=STYLES["warning"] if field["flagged"] else "",
        )  # fmt: skip
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
