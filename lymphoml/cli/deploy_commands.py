"""Commands that take a finished run to where it is used: export, serve."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lymphoml.cli.options import REQUIRED, option, reject_ensemble
from lymphoml.core.errors import InputError


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


@dataclass
class Serve:
    """A page for one patient at a time, on this machine alone, by an exported model."""

    model: str = option(REQUIRED, "folder of export")
    port: int = option(8000, "of 127.0.0.1; 0: any that is free")

    def execute(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"port={self.port}: must be 0 to 65535")
        from lymphoml.deploy.predict import open_model

        found = open_model(Path(self.model), {"root": "."})
        if missing := [name for name in ("fastapi", "uvicorn", "python_multipart")
                       if find_spec(name) is None]:  # fmt: skip
            raise InputError(f"serve needs {', '.join(missing)}: pip install 'lymphoml[serve]'")
        from lymphoml.deploy.serve import serve

        serve(*found, self.port)
