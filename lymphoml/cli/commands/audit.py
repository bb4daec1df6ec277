"""`python -m lymphoml audit`: what a cohort's numbers could be wrong by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.cli.options import check_out, option


@dataclass
class Audit:
    """Check tables, images, persons and shortcuts; exit 0 clean, 1 warnings, 2 errors."""

    cohort: str = option("lymphocytosis", "which of conf/data, as data=... of train.py")
    data: dict[str, Any] = option({}, "changes to its settings: data.root=DIR")
    out: str | None = option(None, "private file; runs/audit/NAME/audit.json by default")


def run(options: Audit) -> None:
    from lymphoml.cli.config import data_config

    data = data_config(options.cohort, options.data)
    default = Path("runs/audit") / data.name / "audit.json"
    out = Path(options.out).expanduser() if options.out else default
    check_out(out, Path(data.root), "audit.json")

    from lymphoml.audit.findings import print_audit
    from lymphoml.audit.run import audit
    from lymphoml.core.files import write_json
    from lymphoml.data.mil_table import require_images

    require_images(data, "audit")
    content = audit(data)
    write_json(out, content, private=True)
    print_audit(content)
    print(out)
    raise SystemExit(content["exit_code"])
