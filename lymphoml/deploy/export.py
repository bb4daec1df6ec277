"""A finished run as a folder that predicts without torch: graphs, what they expect, a card."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal
from torch import Tensor
from torch.export import Dim

from lymphoml.core.errors import InputError
from lymphoml.core.files import UMASK, atomic_write, write_json, write_text
from lymphoml.core.privacy import LOCAL, portable
from lymphoml.core.progress import progress_bar
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.decoding import Preprocessing
from lymphoml.deploy import runtime
from lymphoml.deploy.card import write_card
from lymphoml.deploy.folds import Folds, open_folds
from lymphoml.deploy.graphs import Encoders, Heads, Preprocess, to_onnx
from lymphoml.deploy.quantize import quantize
from lymphoml.deploy.runtime import ExportedModel
from lymphoml.models.build import uses_images
from lymphoml.runs.checksums import write_checksums
from lymphoml.runs.finished_run import read_run
from lymphoml.runs.provenance import data_fingerprint, package_versions
from lymphoml.runs.run_folder import read_environment
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.triage_rule import portable_rule

PARITY = 1e-5  # largest difference in probability that is allowed
LABELS = {"0": "reactive", "1": "tumoral"}
WEIGHTS = "model.safetensors"
REQUIREMENTS = ("filelock", "joblib", "numpy", "omegaconf", "onnxruntime", "pandas", "pillow",
                "pydantic", "pyyaml", "rich")  # fmt: skip
EXTRA = ("onnx", "onnxruntime", "onnxscript", "safetensors")  # packages that only this needs
LARGEST = 2_000_000_000  # bytes
OUTPUTS = ("probability", "logit", "by_fold")


def export(
    run: Path, config: TrainConfig, out: Path, quantized: str | None = None,
    accept_changes: bool = False,
) -> Path:  # fmt: skip
    """Write the run's models to the folder `out`, and return it.

    `config` is the run's, with the cohort that its patients are in. Real bags of it, and these cut
    to a single image, must get the run's probabilities to PARITY, before the encoders are quantized
    if `quantized` is int8. Raises InputError.
    """
    if quantized not in (None, "int8"):
        raise InputError(f"quantize={quantized}: must be int8, or left out")
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise InputError(f"export needs {', '.join(missing)}: pip install {' '.join(missing)}")
    if out.exists():
        raise InputError(f"out={out}: exists; give another folder, or remove it")
    finished = read_run(run)
    folds = open_folds(run, config)
    with _whole_folder(out) as folder:
        write_graphs(folds, folder)
        write_checksums(folder, _listed(folder))
        model = ExportedModel(folder)
        differences = [*differences_from_run(folds, model)]
        difference = max(differences)
        if not difference <= PARITY:
            raise InputError(
                f"run {run}: the exported graphs differ from it by {difference:.1e} in "
                f"probability, more than {PARITY:.0e}; nothing is written"
            )
        parity = {"bags": len(differences), "largest_difference": f"{difference:.0e}"}
        content = model.config | {"parity": parity}
        if quantized:
            content["quantized"] = quantize(folds, model, accept_changes)
        write_json(folder / runtime.CONFIG, content)
        inputs = read_mapping(folder / runtime.PREPROCESSING, "export again")
        write_card(folder, finished, content, inputs, model.rule)
        write_checksums(folder, _listed(folder))
    print(f"largest difference from the run: {difference:.1e} in probability")
    return out


def write_graphs(folds: Folds, folder: Path) -> None:
    """Write the graphs with all that the runtime reads."""
    features = None
    models = [each.model for each in folds.opened]
    size = sum(each.nbytes for model in models for each in model.state_dict().values())
    if size > LARGEST:
        raise InputError(
            f"run {folds.run}: its {len(models)} models take {decimal(size)}, more than the "
            f"{decimal(LARGEST)} that a file of ONNX can hold; export a run of fewer folds"
        )
    if uses_images(folds.config.model):
        sample, sizes, preprocess = _instances(folds)
        encoders = Encoders(models, [each.bags.tta_views for each in folds.opened], preprocess)
        outputs = [f"features_{each.fold}" for each in folds.opened]
        content = to_onnx(encoders, {"instances": sample}, outputs, {"instances": sizes})
        _write(folder / runtime.ENCODER, content)
        with torch.no_grad():
            features = torch.cat(encoders(sample))
    clinical = [each.bags.clinical for each in folds.opened] if folds.columns else None
    heads = Heads(models, clinical, len(folds.opened[0].bags.tta_views))
    values = torch.ones(len(folds.columns), dtype=torch.float64) if folds.columns else None
    inputs = {"features": features, "values": values}
    content = to_onnx(heads, inputs, OUTPUTS, {"features": {1: Dim("n", min=1)}})
    _write(folder / runtime.HEAD, content)
    _write_settings(folds, folder)


def _instances(folds: Folds) -> tuple[Tensor, dict[int, Any], Preprocess | None]:
    """Return sample images (n h w 3) or vectors (n d), which sizes may differ, what comes first."""
    data, sizes = folds.config.data, {0: Dim("n", min=1)}
    store: Any = folds.opened[0].bags.store
    if data.holds_features:
        return torch.randn(3, len(store.names)), sizes, None
    height, width = store.size
    if data.crop:
        height, width = data.crop + 2, data.crop + 3
        sizes |= {1: Dim("h", min=data.crop), 2: Dim("w", min=data.crop)}
    elif data.resize:
        height = width = 2 * data.resize
        sizes |= dict.fromkeys((1, 2), Dim("side", min=1))
    sample = torch.randint(256, (3, height, width, 3), dtype=torch.uint8)
    return sample, sizes, Preprocess(Preprocessing.of(data))


def _write_settings(folds: Folds, folder: Path) -> None:
    """Write what the runtime reads beside the graphs, and the weights for other programs."""
    from safetensors.torch import save

    config, data = folds.config, folds.config.data
    stored = portable(config.to_dict())
    environment = read_environment(folds.run)
    ranges = {each.fold: each.ranges for each in folds.opened}
    cohort = {key: value for key, value in stored["data"].items() if key not in LOCAL}
    content = {
        "format": runtime.FORMAT,
        "name": folds.run.resolve().name,
        "labels": LABELS,
        "folds": [*ranges],
        "training_data": data_fingerprint(environment),
        "trained_with": environment.get("versions", {}),
        "exported_with": package_versions(),
        "model": stored["model"],
        "data": cohort,
    }
    write_json(folder / runtime.CONFIG, content)
    with_pixels = uses_images(config.model) and not data.holds_features
    store: Any = folds.opened[0].bags.store
    size = None if data.crop or data.resize or not with_pixels else [*store.size]
    images = {"crop": data.crop, "resize": data.resize, "size": size,
              "normalize": data.to_dict()["normalize_images"], "views": data.eval_tta}  # fmt: skip
    features = store.names if uses_images(config.model) and data.holds_features else None
    inputs = {"images": images if with_pixels else None, "features": features,
              "encoder": folds.trained_on.encoder,
              "features_file": folds.trained_on.features_file,
              "clinical": folds.columns}  # fmt: skip
    write_json(folder / runtime.PREPROCESSING, inputs)
    write_json(folder / runtime.RANGES, ranges)
    if (rule := portable_rule(folds.run)) is not None:
        write_json(folder / runtime.RULE, rule)
    weights = {
        f"fold-{each.fold}.{name}": tensor.contiguous().clone()
        for each in folds.opened
        for name, tensor in each.model.state_dict().items()
    }
    _write(folder / WEIGHTS, save(weights, {"format": "pt"}))
    pins = "".join(f"{name}=={version(name)}\n" for name in REQUIREMENTS)
    write_text(folder / "requirements.txt", pins)


def differences_from_run(folds: Folds, model: ExportedModel) -> Iterator[float]:
    """Yield the largest difference in probability, of a fold or the mean, for each real bag."""
    table = folds.opened[0].bags.cohort.table
    with progress_bar("parity", len(folds.patients), "patients") as bar:
        for patient in folds.patients:
            instances = list(_instances_of(folds, model, patient))
            for count in {len(instances), min(len(instances), 1)}:
                expected = _expected(folds, patient, count)
                answer = model.predict(instances[:count], model.row(table, patient))
                found, right = ([*each, np.mean(each)] for each in (answer.by_fold, expected))
                yield float(np.abs(np.subtract(found, right)).max())
            bar.advance()


def _instances_of(folds: Folds, model: ExportedModel, patient: str) -> Sequence[np.ndarray]:
    bags = folds.opened[0].bags
    if bags.store is None:
        return []
    if model.features:
        return list(bags.store.bag(patient))
    return list(model.read_images(bags.cohort.images[patient]))


@torch.no_grad()
def _expected(folds: Folds, patient: str, count: int) -> np.ndarray:
    """Return what the run's models say of the patient's first images, in single precision."""
    logits = []
    for each in folds.opened:
        if each.bags.store is None:
            clinical = each.clinical(patient).unsqueeze(0)
            logits.append(float(each.model.classify(None, torch.ones(1).long(), clinical)))
        else:
            logits += each.bag(patient).logits([np.arange(count)]).tolist()
    return torch.sigmoid(torch.tensor(logits)).double().numpy()


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _listed(folder: Path) -> list[str]:
    """The files that the runtime reads, which must stay as they are; a card may be edited."""
    return sorted(each.name for each in folder.iterdir() if each.suffix in (".json", ".onnx"))


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that becomes it if all goes well, and else leaves nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield folder
        os.chmod(folder, 0o777 & ~UMASK)
        os.rename(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
