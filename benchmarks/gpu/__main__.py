"""`benchmarks/gpu.sh`: parity of a GPU with the CPU, its speed, and what Figure 3 would take."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import WAYS, Ends, figure_3, format_table, note_epochs, rates
from lymphoml.core.files import write_json

ROOT = Path(__file__).parents[2]
POLL_S, LEFT_S = 0.02, 5  # between looks at a step; of all steps' time, for the table


class Steps:
    """Run steps as processes; one that fails or runs over is noted, and the next one runs."""

    def __init__(self, folder: Path, limit: float):
        self.folder, self.each = folder, limit / 6
        self.deadline = time.monotonic() + limit - LEFT_S
        self.failed: dict[str, str] = {}

    def run(self, name: str, words: list[str], watch: Callable = lambda: None) -> float | None:
        """Return when the process began; None where it failed. `watch` is called all the while."""
        started = time.monotonic()
        limit = max(min(self.each, self.deadline - started), 0.0)
        print(f"{name} ...", flush=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [sys.executable, *words], cwd=self.folder, env=environment, stdout=output,
                stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                while process.poll() is None and time.monotonic() < started + limit:
                    time.sleep(POLL_S)
                    watch()
            finally:
                if over := process.poll() is None:  # killed with the jobs that it started
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if process.returncode:
                output.seek(0)
                last = output.read().decode(errors="replace").strip().split("\n")[-1]
                what = f"ran over {limit:.0f} s" if over else f"exit code {process.returncode}"
                self.failed[name] = f"{what}: {last.strip()[:300]}"
        return None if process.returncode else started

    def work(self, name: str, *words: str) -> Any:
        """Return the answer of a task of `worker`; None where it failed."""
        answer = self.folder / f"{name}.json"
        words = ("-m", "benchmarks.gpu.worker", name, *words, str(answer))
        return None if self.run(name, [*words]) is None else json.loads(answer.read_text())

    def train(self, way: str, precision: str, options: argparse.Namespace) -> dict | None:
        """Return the rates of `experiment=paper` trained in this way; None where it failed."""
        name, ends = f"{way}-{precision}", Ends()
        run, folds = self.folder / name, options.folds if way == "side-by-side" else 1
        place = ["fold=0", f"hydra.run.dir={run}"] if folds == 1 else [
            "-cd", str(ROOT / "sweeps"), "-cn", "folds", f"hydra.sweep.dir={run}",
            f"hydra.sweeper.params.fold='{','.join(map(str, range(folds)))}'",
            f"hydra.launcher.n_jobs={folds}",
        ]  # fmt: skip
        words = [
            str(ROOT / "train.py"), *place, "experiment=paper", "data=synthetic", "logger=none",
            f"data.root={self.folder / 'cohort'}", f"data.cache={self.folder / 'cache'}",
            f"data.device_cache={str(way != 'loader').lower()}", "data.image_baselines=[]",
            f"data.num_workers={options.workers}", f"trainer.max_epochs={options.epochs}",
            f"trainer.precision={precision}", "trainer.enable_progress_bar=false",
            *options.overrides,
        ]  # fmt: skip
        started = self.run(name, words, lambda: note_epochs(run, ends, time.monotonic()))
        try:
            if started is not None:
                found = rates(self.folder / "cohort", ends, started)
                return {"way": way, "precision": precision, **found}
        except ValueError as error:
            self.failed[name] = str(error)
        return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--patients", type=int, default=60, help="labelled")
    parser.add_argument("--bags", type=int, nargs=2, default=[16, 198], help="images a patient")
    parser.add_argument("--epochs", type=int, default=6, help="the first one is not timed")
    parser.add_argument("--folds", type=int, default=5, help="side by side")
    parser.add_argument("--workers", type=int, default=4, help="processes of the loader")
    parser.add_argument("--limit", type=float, default=480, help="seconds, in all")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="all numbers")
    parser.add_argument("overrides", nargs="*", help="more of train.py's")
    options = parser.parse_args()
    if options.epochs < 3 or not 2 <= options.folds <= 5 or not options.out.parent.is_dir():
        parser.error("--epochs must be >= 3, --folds 2 to 5, --out a file in an existing folder")
    with tempfile.TemporaryDirectory(prefix="lymphoml-gpu-") as folder:
        steps, training, parity = Steps(Path(folder), options.limit), [], None
        machine, sizes = steps.work("machine"), (options.size, options.patients, *options.bags)
        cohort = steps.work("cohort", *map(str, sizes))
        for precision in ("32-true", "bf16-mixed") if cohort else ():
            for way in WAYS:
                if found := steps.train(way, precision, options):
                    training.append(found)
                    if len(training) == 1:
                        parity = steps.work("parity", f"{way}-{precision}")
    if wrong := [name for name, found in (parity or {}).items() if not found["holds"]]:
        steps.failed["parity"] = f"does not hold in {', '.join(wrong)}"
    results = {"machine": machine, "cohort": cohort, "training": training, "parity": parity,
               "figure_3": figure_3(training), "failed": steps.failed}  # fmt: skip
    print(format_table(results))
    write_json(options.out, results)
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
