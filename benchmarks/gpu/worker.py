"""`python -m benchmarks.gpu.worker TASK ... ANSWER`: what needs torch, in a process of its own."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.bench import make_cohort
from lymphoml.cli.config import run_config
from lymphoml.core.cores import available_cores
from lymphoml.core.files import write_json
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import load_cohort
from lymphoml.data.transforms import BatchTransform
from lymphoml.features.instance_store import open_instance_store
from lymphoml.training import hardware
from lymphoml.training.checkpoint import LAST, load_checkpoint
from lymphoml.training.lightning_module import BagClassifier

IMAGES = 16  # of a patient, for parity
AT_MOST = {"32-true": 1e-3, "bf16-mixed": 2e-2}  # of a feature vector's norm


def machine() -> dict[str, Any]:
    """Return card, driver and versions."""
    found = {"device": hardware.device_name("auto"), "torch": torch.__version__,
             "cores": available_cores()}  # fmt: skip
    if torch.cuda.is_available():
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            found["driver"] = subprocess.check_output(query, text=True, timeout=10).split()[0]
        free, total = torch.cuda.mem_get_info()
        found |= {"CUDA": torch.version.cuda, "GiB": total >> 30, "GiB free": free >> 30}
    return found


def cohort(size: str, patients: str, least: str, most: str) -> dict[str, int]:
    """Draw `cohort`: bags from `least` to `most` images in geometric steps, in a random order."""
    sizes = np.geomspace(int(least), int(most), int(patients)).round().astype(int)
    make_cohort(Path.cwd(), int(size), np.random.default_rng(0).permutation(sizes).tolist())
    return {"size": int(size), "patients": int(patients), "images": int(sizes.sum())}


def parity(name: str) -> dict[str, Any]:
    """Compare features and labels of the run's fold 0 on this device with those of the CPU."""
    run = Path(name)
    config = run_config(run, {"root": "cohort", "cache": "cache"}, {})
    patients = load_cohort(config.data).labelled
    store = open_instance_store(config.data, patients.images)[0]
    checkpoint = load_checkpoint(run / "fold-0" / LAST)
    module = BagClassifier(**checkpoint["hyper_parameters"]).eval()
    module.load_state_dict(checkpoint["state_dict"])
    bags = [np.array(store.bag(each)[:IMAGES]) for each in patients.table.index]
    lengths = torch.tensor([len(bag) for bag in bags])
    images = torch.from_numpy(np.concatenate(bags)).permute(0, 3, 1, 2)
    encoder = ClinicalEncoder(**checkpoint["BagDataModule"]["clinical"])
    clinical = torch.from_numpy(encoder.transform(patients.table))

    @torch.inference_mode()
    def outputs(accelerator: str, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
        options = config.trainer.replace({"accelerator": accelerator, "precision": precision})
        hardware.configure_torch(resolved := hardware.resolve_hardware(options))
        device = "cuda" if resolved.cuda else "cpu"
        model, transform = module.to(device).model, BatchTransform(config.data.normalize_images)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
            features = model.embed(images.to(device), transform=transform, chunk_size=64)
            logits = model.classify(features, lengths, clinical.to(device))
        return features.float().cpu(), logits.float().cpu()

    reference, expected = outputs("cpu", "32-true")
    precisions = {}
    for precision, at_most in AT_MOST.items():
        features, logits = outputs("auto", precision)
        error = ((features - reference).norm(dim=1) / reference.norm(dim=1)).max().item()
        close = expected.abs() <= at_most  # a decision that rounding may change
        equal = ((logits > 0) == (expected > 0)) & ~close
        precisions[precision] = {
            "features": error, "at_most": at_most, "patients": len(bags), "equal": int(equal.sum()),
            "close": int(close.sum()), "holds": error <= at_most and bool((equal | close).all()),
        }  # fmt: skip
    return precisions


if __name__ == "__main__":
    task, *words, answer = sys.argv[1:]
    write_json(Path(answer), {"machine": machine, "cohort": cohort, "parity": parity}[task](*words))
