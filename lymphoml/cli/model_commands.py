"""Commands on the models of finished runs: explain, instances, repeatability, export, serve."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lymphoml.cli.options import REQUIRED, option, reject_ensemble
from lymphoml.core.errors import InputError

PICTURES = 6


@dataclass
class Explain:
    """Which cells, places in them and measures moved a patient's logit; on the CPU in float32."""

    run: str = option(REQUIRED, "finished run folder")
    patients: str = option("all", "all, sample (40 labelled ones) or [P1,P2]")
    methods: list[str] = option(
        ["leave_one_out"],
        "of leave_one_out, attention, measures, and of pixels occlusion, grad_cam",
    )
    pictures: int | None = option(None, "cells drawn of a patient, by methods of pixels; 6")
    checks: bool = option(True, "measure how faithful they are: faithfulness.json")
    control: str | None = option(None, "run of permuted labels, to check beside: RUN2")
    truth: str | None = option(None, "kinds of single images, as for instances: truth.json or .csv")
    out: str | None = option(None, "folder; default: RUN/explanations")
    data: dict[str, Any] = option({}, "changes to the run's data settings: data.root=DIR")

    def execute(self) -> None:
        from lymphoml.cli.config import run_config

        run = Path(self.run)
        patients: str | list[str] = self.patients
        if re.fullmatch(r"\[.+\]", self.patients):
            patients = [each.strip(" '\"") for each in self.patients[1:-1].split(",")]
        from lymphoml.explain.tables import OF_PIXELS

        drawn = PICTURES if self.pictures is None else self.pictures
        if not 0 <= drawn <= 1000:
            raise InputError(f"pictures={drawn}: must be 0 to 1000")
        if self.pictures and not {*OF_PIXELS} & {*self.methods}:
            needed = " or ".join(OF_PIXELS)
            raise InputError(f"pictures={drawn}: has no effect without {needed} in methods")
        reject_ensemble(run)
        if not self.checks and (self.control or self.truth):
            raise InputError("checks=false: leave control and truth out, or set checks=true")
        fixed = {"accelerator": "cpu", "precision": "32-true"}
        config, other = run_config(run, self.data, fixed), None
        from lymphoml.explain.run import ControlRun, explain

        if self.control:
            reject_ensemble(Path(self.control))
            changed = run_config(Path(self.control), self.data, fixed)
            other = ControlRun(Path(self.control), changed)
        out, truth = (Path(each) if each else None for each in (self.out, self.truth))
        what = run, config, patients, self.methods, drawn, out
        print(explain(*what, self.checks, other, truth))


@dataclass
class Instances:
    """How well a run's per-image probabilities tell cells apart whose kind is known."""

    run: str = option(REQUIRED, "finished run folder")
    truth: str = option(REQUIRED, "a synthetic cohort's truth.json, or a .csv: patient,image,truth")

    def execute(self) -> None:
        from lymphoml.runs.instance_truth import score_images

        found, bags = score_images(Path(self.run), Path(self.truth))
        if not bags:
            raise InputError(f"truth={self.truth}: no patient has images of both kinds")
        print(
            f"AUROC of single images, within patients: {found.value:.3f} [{found.low:.3f}, "
            f"{found.high:.3f}], the mean of {bags} patients with both kinds; chance 0.5"
        )


@dataclass
class Repeatability:
    """How far a run's decisions repeat with other cells of the same patients: random sub-bags."""

    run: str = option(REQUIRED, "finished run folder")
    draws: int = option(20, "of two disjoint sub-bags of each size and patient")
    seed: int = option(0, "of the draws")
    data: dict[str, Any] = option({}, "changes to the run's data settings: data.root=DIR")
    trainer: dict[str, Any] = option({}, "the same for trainer: trainer.accelerator=cpu")

    def execute(self) -> None:
        from lymphoml.cli.config import run_config
        from lymphoml.reports.repeatability import write_repeatability
        from lymphoml.runs.finished_run import read_run

        if not 1 <= self.draws <= 1000:
            raise InputError(f"draws={self.draws}: must be 1 to 1000")
        run = read_run(Path(self.run))
        reject_ensemble(run.path)
        config = run_config(run.path, self.data, self.trainer)
        from lymphoml.runs.repeatability import measure

        write_repeatability(run.path, measure(run, config, self.draws, self.seed))


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
        if self.accept_changes and not self.quantize:
            raise InputError("accept_changes: has no effect without quantize=int8")
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
            what = " ".join(missing).replace("_", "-")
            raise InputError(f"serve needs {', '.join(missing)}: pip install {what}")
        from lymphoml.deploy.serve import serve

        serve(*found, self.port)
