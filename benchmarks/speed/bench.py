"""Measure the three variants round after round, each in a process of its own."""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.worker import ROOT, Answer, Job
from lymphoml.core.cores import available_cores
from lymphoml.core.errors import InputError
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.training import hardware

VARIANTS = {"reference": "paper's recipe", "plain": "plain loop", "lymphoml": "lymphoml"}
PAIRS = (("lymphoml", "reference"), ("lymphoml", "plain"), ("plain", "reference"))
POLL_S = 0.05
IMAGES_DRAWN = 4  # a patient; the others are links to these, read and decoded all the same
LIBRARIES = ("torch", "torchvision", "pytorch-lightning", "numpy", "pillow")


@dataclass(frozen=True)
class Measurement:
    round: int  # in the first, plain and lymphoml decode the images
    variant: str
    answer: Answer
    first_step_seconds: float  # since the process began: imports, data, model, step
    peak_mib: float  # resident; includes mapped pages of decoded images
    other_cores: float | None  # busy with other processes meanwhile


def make_cohort(folder: Path, size: int, bags: Sequence[int]) -> Path:
    """Return a synthetic cohort in Kaggle's layout: a patient a bag, of images of `size` pixels."""
    root, drawn = folder / "cohort", min(*bags, IMAGES_DRAWN)
    synthesize(root, len(bags), 1, (drawn, drawn), size, seed=0)
    folders = sorted(path for path in (root / "trainset").iterdir() if path.is_dir())
    for patient, bag in zip(folders, bags, strict=True):
        for number in range(drawn, bag):
            os.link(patient / f"{number % drawn:06d}.jpg", patient / f"{number:06d}.jpg")
    return root


def compare(job: Job, rounds: int, report: Callable[[str], None] = print) -> list[Measurement]:
    """Measure `job` once a round for each variant: a b c, a b c, ..."""
    measurements = []
    for number in range(rounds):
        for variant in VARIANTS:
            report(f"round {number + 1} of {rounds}: {VARIANTS[variant]}")
            measurements.append(measure(replace(job, variant=variant), number))
    return measurements


def measure(job: Job, number: int = 0) -> Measurement:
    """Run the job in a process of its own. Raises InputError where it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    with tempfile.TemporaryDirectory(dir=job.cache) as folder, tempfile.TemporaryFile() as output:
        job_file, answer_file = Path(folder) / "job.json", Path(folder) / "answer.json"
        job_file.write_text(json.dumps(asdict(job)))
        started, busy, peak = time.monotonic(), _busy_seconds(), 0.0
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.worker", str(job_file), str(answer_file)],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            # Popen.wait would discard the resource usage of the child.
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                peak = max(peak, _peak_mib(process.pid))
                time.sleep(POLL_S)
            process.returncode = os.waitstatus_to_exitcode(ended[1])
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
            raise InputError([f"{job.variant} failed, code {process.returncode}:", *lines[-5:]])
        answer = Answer(**json.loads(answer_file.read_text()))
    assert answer.first_step_at is not None
    other_cores = None
    if busy is not None and (busy_after := _busy_seconds()) is not None:
        own = ended[2].ru_utime + ended[2].ru_stime
        other_cores = max(0.0, busy_after - busy - own) / (time.monotonic() - started)
    return Measurement(
        number, job.variant, answer, answer.first_step_at - started, peak, other_cores
    )


def collect(measurements: list[Measurement], job: Job, condition: dict[str, int]) -> dict[str, Any]:
    """Return the results as plain data, without host, user or path."""
    others = [m.other_cores for m in measurements if m.other_cores is not None]
    medians = {variant: _medians(measurements, variant) for variant in VARIANTS}
    return {
        "machine": {
            "hardware": hardware.device_name(job.accelerator),
            "cores": available_cores(),
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        },
        "versions": {"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        "condition": condition,
        "settings": {
            "threads": job.threads,
            "precision": job.precision,
            "epochs": job.epochs,
            "passes": job.passes,
            "overrides": [re.sub(r"[^=\[,]*/", "", word) for word in job.overrides],
        },
        "other_cores": {"median": median(others), "peak": max(others)} if others else None,
        "medians": medians,
        "ratios": {
            f"{candidate}/{reference}": {
                rate: _ratio(measurements, rate, candidate, reference)
                for rate in ("training", "inference")
            }
            for candidate, reference in PAIRS
        },
        "runs": [asdict(measurement) for measurement in measurements],
    }


def format_table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    condition, medians, ratios = results["condition"], results["medians"], results["ratios"]
    rows = [
        ("training, images/s", "training", ".1f"),
        ("inference, images/s", "inference", ".1f"),
        ("peak memory, MiB", "peak_mib", ".0f"),
        ("first step after, s (decoded before)", "first_step_seconds", ".1f"),
    ]
    lines = [
        f"{results['machine']['hardware']}, {results['settings']['threads']} threads: "
        f"{condition['patients']} patients of {condition['bag']} images, {condition['size']} px, "
        f"medians of {condition['rounds']} rounds",
        "",
        "| | " + " | ".join(VARIANTS.values()) + " |",
        "|---" * (len(VARIANTS) + 1) + "|",
    ]
    for title, key, form in rows:
        lines.append(
            f"| {title} | " + " | ".join(f"{medians[v][key]:{form}}" for v in VARIANTS) + " |"
        )
    lines += ["", "| ratio within a round, median (lowest to highest) | training | inference |"]
    lines.append("|---|---|---|")
    for pair, rates in ratios.items():
        cells = [f"{r['median']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in rates.values()]
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    others = results["other_cores"]
    if (
        others
        and others["peak"] > results["machine"]["cores"] - results["settings"]["threads"] + 0.2
    ):
        lines += ["", f"The machine was busy (other processes used {others['median']:.2f} cores, "
                      f"peak {others['peak']:.2f}): results are unreliable."]  # fmt: skip
    return "\n".join(lines)


def _medians(measurements: Iterable[Measurement], variant: str) -> dict[str, float]:
    """Return the medians over rounds; the first step without the round that decodes."""
    own = [m for m in measurements if m.variant == variant]
    return {
        "training": median(median(m.answer.training) for m in own),
        "inference": median(median(m.answer.inference) for m in own),
        "peak_mib": median(m.peak_mib for m in own),
        "first_step_seconds": median(m.first_step_seconds for m in own if m.round > 0),
    }


def _ratio(
    measurements: list[Measurement], rate: str, candidate: str, reference: str
) -> dict[str, float]:
    """Return median, lowest and highest of candidate / reference within a round."""
    rates = {(m.round, m.variant): median(getattr(m.answer, rate)) for m in measurements}
    rounds = {m.round for m in measurements}
    ratios = [rates[number, candidate] / rates[number, reference] for number in rounds]
    return {"median": median(ratios), "low": min(ratios), "high": max(ratios)}


def _busy_seconds() -> float | None:
    """Return the CPU seconds of all cores since the machine started; None without /proc."""
    try:
        user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split()[1:9]
    except (OSError, ValueError):
        return None
    return sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    """Return VmHWM, the most that was resident so far; 0 without /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("VmHWM", "0 kB").split()[0]) / 1024
