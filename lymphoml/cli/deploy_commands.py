"""Commands that take a finished run to where it is used: export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.cli.options import REQUIRED, option, reject_ensemble


@dataclass
class Export:
    """Write a run's models as a folder that predict.py model=DIR runs without torch."""

    run: str = option(REQUIRED, "finished run folder")
    out: str = option(REQUIRED, "folder to make")
    quantize: str | None = option(None, "int8: encoders in 8 bits, judged on held-out bags")
    accept_changes: bool = option(False, "also where that changes decisions")
    data: dict[str, Any] = option({}, "changes to the run's data settings: data.root=DIR")

    def execute(self) -> None:
        from lymphoml.cli.config import run_config

        run = Path(self.run)
        reject_ensemble(run)
        config = run_config(run, self.data, {"accelerator": "cpu", "precision": "32-true"})
        from lymphoml.deploy.export import export

        print(export(run, config, Path(self.out), self.quantize, self.accept_changes))
