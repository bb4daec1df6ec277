"""A finished run as a folder that predicts without torch: graphs, what they expect, a card."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim

from lymphoml.core.errors import InputError
from lymphoml.core.files import UMASK, atomic_write, write_json, write_text
from lymphoml.core.privacy import LOCAL, portable
from lymphoml.core.progress import progress_bar
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.decoding import Preprocessing
from lymphoml.deploy import runtime
from lymphoml.deploy.card import write_card
from lymphoml.deploy.conversion import to_onnx
from lymphoml.deploy.graphs import Encoders, Heads, Preprocess
from lymphoml.deploy.runtime import ExportedModel
from lymphoml.explain.bag import Opened
from lymphoml.features.pretraining.settings import PRETRAINED
from lymphoml.models.build import uses_clinical, uses_images
from lymphoml.runs.checksums import write_checksums
from lymphoml.runs.finished_run import read_run
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.predict import check_run, open_models
from lymphoml.runs.provenance import data_fingerprint, package_versions
from lymphoml.runs.run_folder import read_environment
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.triage_rule import portable_rule
from lymphoml.training.lightning_module import BagClassifier
from lymphoml.training.predict_fold import load_module

PARITY = 1e-5  # largest difference in probability that is allowed
PARITY_PATIENTS = 8
LABELS = {"0": "reactive", "1": "tumoral"}
WEIGHTS = "model.safetensors"
REQUIREMENTS = ("filelock", "joblib", "numpy", "omegaconf", "onnxruntime", "pandas", "pillow",
                "pydantic", "pyyaml", "rich")  # fmt: skip
EXTRA = ("onnx", "onnxruntime", "onnxscript", "safetensors")  # packages that only this needs
OUTPUTS = ("probability", "logit", "by_fold")


@dataclass(frozen=True)
class Folds:
    """The models of a run's folds, with the bags of some of its patients."""

    run: Path
    config: TrainConfig
    opened: Sequence[Opened]
    ranges: Sequence[dict[str, Any]]

    @property
    def patients(self) -> list[str]:
        return list(self.opened[0].bags.cohort.table.index)

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        """What each clinical value must be, by column; of a model without these none."""
        data, encoder = self.config.data, self.opened[0].bags.clinical
        if not uses_clinical(self.config.model):
            return {}
        schema = self.opened[0].bags.cohort.schema
        found = {}
        for name in encoder.columns:
            column = data.columns[name]
            positive = column.kind == "numeric" and (column.positive or column.log)
            more = {"positive": positive, "may_be_missing": name in encoder.fill}
            found[name] = {**schema[name], **more}
        return found


def export(run: Path, config: TrainConfig, out: Path) -> Path:
    """Write the run's models to the folder `out`, and return it.

    `config` is the run's, with the cohort that its patients are in. Real bags of it, and one cut to
    a single image, must get the run's probabilities to PARITY. Raises InputError.
    """
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise InputError(f"{', '.join(missing)}: not installed; pip install 'lymphoml[export]'")
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
        write_json(folder / runtime.CONFIG, content)
        inputs = read_mapping(folder / runtime.PREPROCESSING, "export again")
        write_card(folder, finished, content, inputs, model.rule)
        write_checksums(folder, _listed(folder))
    print(f"largest difference from the run: {difference:.1e} in probability")
    return out


def open_folds(run: Path, config: TrainConfig) -> Folds:
    """Return the models of a run that can be exported. Raises InputError, naming what cannot."""
    trained_on = check_run(run, config)
    reject_unexportable(run, config)
    cohort = load_cohort(config.data).labelled
    cohort = cohort.subset(spread(cohort))
    opened, ranges = [], []
    for fold, checkpoint, _, bags, _ in open_models(run, config, cohort, list(trained_on)):
        module = load_module(checkpoint, fold_folder(run, fold), BagClassifier)
        opened.append(Opened(fold, module.model.eval(), bags))
        ranges.append(checkpoint["BagDataModule"]["ranges"])
    return Folds(run, config, opened, ranges)


def reject_unexportable(run: Path, config: TrainConfig) -> None:
    """Raise InputError for what a graph of one patient's images cannot do."""
    data = config.data
    if not uses_images(config.model):
        return
    for key, value, why in (
        ("stain_norm", data.stain_norm, "is fitted to each patient's images, in Python"),
        ("eval_bag_size", data.eval_bag_size, "draws images at random, and a graph takes all"),
    ):
        if value is not None:
            raise InputError(
                f"run {run}: data.{key}={value} {why}; it cannot be exported. Train a run with "
                f"data.{key}=null."
            )
    if PRETRAINED in data.features.blocks and config.pretrain is not None:
        raise InputError(
            f"run {run}: each fold's features come from an encoder that was pretrained for it; "
            f"such a run cannot be exported. Use the encoder as model.encoder.weights=pretrained."
        )


def spread(cohort: Cohort) -> list[str]:
    """Return PARITY_PATIENTS patients: those of the fewest and the most images, and between."""
    ids = sorted(cohort.table.index, key=lambda each: (len(cohort.images[each]), each))
    places = np.linspace(0, len(ids) - 1, min(PARITY_PATIENTS, len(ids))).round().astype(int)
    return [ids[place] for place in places]


def write_graphs(folds: Folds, folder: Path) -> None:
    """Write the graphs with all that the runtime reads."""
    features = None
    models = [each.model for each in folds.opened]
    if uses_images(folds.config.model):
        sample, sizes, preprocess = _instances(folds)
        encoders = Encoders(models, [each.bags.tta_views for each in folds.opened], preprocess)
        content = to_onnx(encoders, {"instances": sample}, ["features"], {"instances": sizes})
        _write(folder / runtime.ENCODER, content)
        with torch.no_grad():
            features = encoders(sample)
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
    names = [each.fold for each in folds.opened]
    cohort = {key: value for key, value in stored["data"].items() if key not in LOCAL}
    content = {
        "format": runtime.FORMAT,
        "name": folds.run.resolve().name,
        "labels": LABELS,
        "folds": names,
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
              "clinical": folds.columns}  # fmt: skip
    write_json(folder / runtime.PREPROCESSING, inputs)
    write_json(folder / runtime.RANGES, dict(zip(map(str, names), folds.ranges, strict=True)))
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
                answer = model.predict(instances[:count], dict(table.loc[patient]))
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
