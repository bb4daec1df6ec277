"""An audit in the terminal: the findings, gravest first, and the table of shortcuts."""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lymphoml.audit.problems import count

SHOWN = 3  # places of a finding; audit.json holds all
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_audit(content: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console()
    table = Table(title=f"audit of {content['cohort']}", title_justify="left", show_lines=True)
    table.add_column("severity")
    table.add_column("what, where, what to do", overflow="fold")
    for found in content["findings"]:
        where = found["where"]
        lines = [found["what"], *(f"  {place}" for place in where[:SHOWN])]
        if len(where) > SHOWN:
            lines.append(f"  ... and {len(where) - SHOWN:,} more")
        if found["action"]:
            lines.append(f"→ {found['action']}")
        severity = found["severity"]
        table.add_row(severity, _literal("\n".join(lines)), style=STYLES[severity])
    console.print(table)
    if "shortcuts" in content:
        _print_shortcuts(content, console)
    counted = content["severities"]
    files = content["images"]
    console.print(
        f"{', '.join(count(n, severity) for severity, n in counted.items())}; "
        f"{files['usable']:,} of {files['files']:,} images can be used",
        highlight=False,
    )


def _print_shortcuts(content: dict[str, Any], console: Console) -> None:
    told, stratum = content["shortcuts"], content["hard_stratum"]
    table = Table(title="what should tell nothing of the label", title_justify="left", box=SIMPLE)
    table.add_column("field", overflow="fold")
    for name in ("AUROC", "hard stratum"):
        table.add_column(name, no_wrap=True)
    for name in ("p", "adjusted", "LR p"):
        table.add_column(name)
    for field in told["fields"]:
        if field["status"] != "tested":
            table.add_row(_literal(field["name"]), field["status"], style=STYLES["note"])
            continue
        table.add_row(
            _literal(field["name"]),
            _interval(field["auroc"]),
            _interval(field["hard"]),
            f"{field['p']:.2g}",
            f"{field['p_adjusted']:.2g}",
            _beside_clinical(field["likelihood_ratio"]),
            style=STYLES["warning"] if field["flagged"] else "",
        )
    console.print(table)
    lines = [
        f"AUROC with 95 % interval (DeLong), above 0.5 where high values mean tumoral. p of "
        f"{told['permutations']:,} permutations of the labels, two-sided; adjusted for all fields "
        f"together (Westfall and Young), a warning below {told['level']:g}. LR p: a "
        f"likelihood-ratio test beside {', '.join(told['clinical']) or 'nothing'}, not adjusted."
    ]
    if stratum:
        lines.append(
            f"hard stratum: {stratum['column']} at most {stratum['max']:g}, "
            f"{stratum['tumoral']} tumoral and {stratum['reactive']} reactive patients"
        )
    console.print("\n".join(lines), highlight=False, markup=False)


def _interval(score: dict[str, float] | None) -> str:
    if score is None:
        return "-"
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]".replace("[", "\\[")


def _beside_clinical(test: dict[str, Any] | None) -> str:
    if test is None:
        return "-"
    return f"{test['p']:.2g}" if "p" in test else test["reason"]


def _literal(text: str) -> str:
    """As it stands: rich would take what is in brackets for a style."""
    return text.replace("[", "\\[")
