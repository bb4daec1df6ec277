"""Encoders in whole numbers of 8 bits: calibrated on some patients, judged on the others."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from lymphoml.core.errors import InputError
from lymphoml.core.progress import progress_bar
from lymphoml.data.cohort import load_cohort
from lymphoml.deploy.folds import Folds
from lymphoml.deploy.graphs import to_bytes
from lymphoml.deploy.runtime import ENCODER, ExportedModel, open_session
from lymphoml.models.build import uses_images
from lymphoml.runs.run_folder import read_folds_csv

IMAGES = 8  # of each patient, from which the range of each layer's numbers is measured


def quantize(folds: Folds, model: ExportedModel, accept_changes: bool) -> dict[str, Any]:
    """Replace the encoders of `model` by quantized ones; return what that changes, for JSON.

    Each held-out patient is judged by the fold's model, those used for calibration excepted.
    Raises InputError where a decision changes, unless `accept_changes`.
    """
    import onnx

    if not uses_images(folds.config.model) or model.features:
        raise InputError("quantize=int8: the run has no network that looks at pixels; leave it out")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / ENCODER
        _quantize(model, folds, path)
        table = _judge(folds, model, path)
        before, after = (_decisions(table[each], model.rule) for each in ("before", "after"))
        changed = table[(before != after).any(axis=1)]
        for each in changed.itertuples():
            print(f"int8 changes {each.patient}, fold {each.fold}: {each.before:.3f} to "
                  f"{each.after:.3f}")  # fmt: skip
        if len(changed) and not accept_changes:
            raise InputError(
                f"quantize=int8: changes {len(changed)} of {len(table)} decisions, as listed; set "
                f"accept_changes=true, or leave quantize out"
            )
        (model.folder / ENCODER).write_bytes(to_bytes(onnx.load(str(path))))
    difference = (table["after"] - table["before"]).abs()
    auroc = [_auroc(table, name) for name in ("before", "after")]
    return {
        "patients": table["patient"].nunique(),
        "decisions": len(table), "changed_decisions": len(changed),
        "largest_difference": round(float(difference.max()), 4),
        "mean_difference": round(float(difference.mean()), 4), "auroc": auroc,
    }  # fmt: skip


def _decisions(probability: pd.Series, rule: dict[str, Any] | None) -> pd.DataFrame:
    """Return who is called tumoral and, where there is a rule, who is ruled out.

    The threshold is a patient's own probability, which graph and run round differently.
    """
    decisions = pd.DataFrame({"tumoral": probability > 0.5})
    if rule is not None and (limit := rule["threshold"]) is not None:
        decisions["ruled_out"] = probability.round(6) < round(limit, 6)
    return decisions


def _auroc(table: pd.DataFrame, name: str) -> float | None:
    """Return the mean over folds, since each has a model of its own; None without both classes."""
    found = [roc_auc_score(rows["label"], rows[name]) for _, rows in table.groupby("fold")
             if rows["label"].nunique() == 2]  # fmt: skip
    return round(float(np.mean(found)), 4) if found else None


def _quantize(model: ExportedModel, folds: Folds, path: Path) -> None:
    """Write the encoders with convolutions and products in 8 bits, each one's first in float."""
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_static

    class Reader:  # what onnxruntime asks for calibration data
        def __init__(self) -> None:
            self.images = _calibration_images(model, folds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"instances": each[None]} for each in self.images), None)

    ready = path.with_name("ready.onnx")
    quant_pre_process(str(model.folder / ENCODER), str(ready), skip_symbolic_shape=True)
    graph = onnx.load(str(ready))
    excluded: set[str] = set()
    for output in graph.graph.output:
        names = [(node.name, node.op_type) for node in _part(graph, output.name).graph.node]
        first = next(place for place, (_, kind) in enumerate(names) if kind == "Conv")
        excluded |= {name for name, _ in names[: first + 1]}  # the preprocessing among them
    quantize_static(
        str(ready), str(path), Reader(), per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        nodes_to_exclude=sorted(excluded),
    )  # fmt: skip


def _calibration_images(model: ExportedModel, folds: Folds) -> Iterator[np.ndarray]:
    images = folds.opened[0].bags.cohort.images
    for patient in folds.patients:
        paths = images[patient]
        yield from model.read_images(paths[:: -(-len(paths) // IMAGES)])


def _part(graph: Any, output: str) -> Any:
    """Return the part of a graph that makes one of its outputs: a fold's encoder."""
    from onnx.utils import Extractor

    return Extractor(graph).extract_model(["instances"], [output])


def _judge(folds: Folds, model: ExportedModel, path: Path) -> pd.DataFrame:
    """Return the probability of each held-out patient before and after, a row a patient and fold.

    Columns: patient, fold, label, before, after.
    """
    import onnx

    graphs = [onnx.load(str(each)) for each in (model.folder / ENCODER, path)]
    cohort = load_cohort(folds.config.data).labelled
    table = read_folds_csv(folds.run)
    table = table[~table["patient"].isin(folds.patients)].astype({"fold": int})
    if lost := sorted({*table["patient"]} - {*cohort.table.index}):
        raise InputError(
            f"data.root: patient {lost[0]} of the run is missing ({len(lost)} such); quantize=int8 "
            f"is judged on the run's own cohort"
        )
    rows = []
    with progress_bar("int8", len(table), "patients") as bar:
        for place, (fold, output) in enumerate(zip(model.folds, graphs[0].graph.output,
                                                   strict=True)):  # fmt: skip
            pair = [open_session(_part(each, output.name).SerializeToString()) for each in graphs]
            for patient in table.loc[table["fold"] == fold, "patient"]:
                images = list(model.read_images(cohort.images[patient]))
                values = model.row(cohort.table, patient)
                both = []
                for session in pair:
                    features = model.run_encoder(session, images)
                    of_all = np.concatenate([features] * len(model.folds))
                    both.append(model.classify(of_all, values).by_fold[place])
                rows.append((patient, fold, cohort.table["label"][patient], *both))
                bar.advance()
    return pd.DataFrame(rows, columns=["patient", "fold", "label", "before", "after"])
