"""Refuse files that do not belong into the repository: large ones, data, notebooks with output."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lymphoml.core.privacy import is_private

MOST = 500_000  # bytes
FOLDERS = ("data", "runs")
EXEMPT = ("requirements.lock",)


def problem(path: Path) -> str | None:
    """Return why this file must not be committed; None where it may."""
    if path.parts[0] in FOLDERS or is_private(path):
        return "holds data of patients or a run; unstage it"
    if path.stat().st_size > MOST and path.name not in EXEMPT:
        return f"is larger than {MOST // 1000} kB; leave it out"
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        if any(each.get("outputs") or each.get("execution_count") for each in cells):
            return "has output; clear it (Restart kernel and clear all outputs)"
    return None


if __name__ == "__main__":
    found = [(name, text) for name in sys.argv[1:] if (text := problem(Path(name)))]
    for name, text in found:
        print(f"{name}: {text}", file=sys.stderr)
    sys.exit(bool(found))
