"""What a run folder holds beyond the least, or less: scores, baselines, subgroups, cells."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.data.cohort import load_cohort
from tests.reports.fabricate import config, make_predictions, make_run

MEASURES = ("balanced_accuracy", "sensitivity", "specificity", "auroc", "average_precision", "f1",
            "matthews", "brier")  # fmt: skip
DATA = {
    "name": "synthetic", "layout": "kaggle", "root": "", "image_pattern": "*.jpg",
    "id_column": "ID", "label_column": "LABEL", "label_values": {"1": 1, "0": 0, "-1": -1},
    "reference_date": "2020-01-01", "date_formats": {"/": "%m/%d/%Y", "-": "%d-%m-%Y"},
    "columns": {
        "age": {"kind": "date_of_birth", "column": "DOB"},
        "lymphocyte_count": {"kind": "numeric", "column": "LYMPH_COUNT", "log": True},
        "sex": {"kind": "categorical", "column": "GENDER",
                "values": {"F": "F", "f": "F", "M": "M"}},
    },
    "clinical": ["age", "lymphocyte_count"], "missing": "error",
    "hard_stratum": {"column": "lymphocyte_count", "max": 8.0}, "standardize_clinical": True,
    "folds": 2, "repeats": 1, "inner_val_fraction": 0.0, "crop": None,
}  # fmt: skip


def score(value: float, width: float | None = 0.1) -> dict[str, float | None]:
    if width is None:
        return {"value": value, "low": None, "high": None}
    return {"value": value, "low": value - width, "high": value + width / 2}


def enrich(run: Path) -> Path:
    """Every optional key of `metrics.json` and `strata.csv`; the values are of no meaning."""
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    everybody = {measure: score(0.611 + 0.01 * i) for i, measure in enumerate(MEASURES)}
    everybody |= {key: metrics[key] for key in ("balanced_accuracy", "auroc")}
    hard = {measure: score(0.711 + 0.01 * i) for i, measure in enumerate(MEASURES)}
    metrics |= {
        "scores": {"all": everybody, "hard": hard},
        "hard_max": 8.0,
        "thresholds": {
            "fixed": {"balanced_accuracy": metrics["balanced_accuracy"]},
            "nested": {"balanced_accuracy": score(0.6543)},
            "best_on_fold": {"balanced_accuracy": score(0.7654), "invalid": True},
        },
        "baselines": {
            "prevalence": {"all": {m: score(0.5, None) for m in MEASURES}, "hard": None},
            "logistic_regression": {
                "all": {m: score(0.6821) for m in MEASURES},
                "hard": {m: score(0.5432) for m in MEASURES},
            },
        },
        "gain": {
            "reference": "logistic_regression",
            "all": {"balanced_accuracy": {"value": 0.0421, "low": 0.0012, "high": 0.09,
                                                "p": 0.0317}},
            "hard": {"balanced_accuracy": {"value": -0.0333, "low": -0.12, "high": 0.09, "p": 0.6}},
        },
        "best_epoch_gap": 0.0372,
        "subgroups": [
            {"by": "sex", "group": "F", "n_tumoral": 14, "n_reactive": 6,
             "sensitivity": score(0.8765), "specificity": None},
            {"by": "sex", "group": "M", "n_tumoral": 26, "n_reactive": 14,
             "sensitivity": score(0.8), "specificity": score(0.7)},
        ],
    }  # fmt: skip
    (run / "metrics.json").write_text(json.dumps(metrics))
    predictions = pd.read_csv(run / "predictions.csv", dtype={"patient": str})
    patients = predictions.drop_duplicates("patient")[["patient"]]
    patients.assign(hard=[i % 3 == 0 for i in range(len(patients))]).astype({"hard": int}).to_csv(
        run / "strata.csv", index=False
    )
    return run


def forget(run: Path) -> Path:
    """The run as version 0.1.0 left it."""
    metrics = json.loads((run / "metrics.json").read_text())
    kept = ("n_patients", "folds", "balanced_accuracy", "auroc", "best_epoch_balanced_accuracy")
    old = {key: metrics[key] for key in kept} | {"baseline": {"majority": 0.5}}
    (run / "metrics.json").write_text(json.dumps(old))
    return run


def make_run_of(cohort: Path, path: Path, **changes: Any) -> Path:
    """A run on the labelled patients of a synthetic cohort, images and all."""
    changes = {f"data.{key}": value for key, value in (DATA | {"root": str(cohort)}).items()} | {
        f"data.{key}": value for key, value in changes.items()
    }
    settings = config(**changes)
    labelled, repeats = load_cohort(settings["data"]).labelled, settings["data"]["repeats"]
    predictions = make_predictions(len(labelled.table), 2, repeats, skill=2.0, seed=0)
    predictions = predictions.assign(
        patient=list(labelled.table.index) * repeats, label=list(labelled.table["label"]) * repeats
    )
    make_run(path, settings, epochs=3, predictions=predictions)
    environment = json.loads((path / "environment.json").read_text())
    environment["data_fingerprint"] = labelled.fingerprint()[:16] + "0" * 16
    (path / "environment.json").write_text(json.dumps(environment))
    for fold, rows in predictions.groupby("fold"):
        cells = [
            (patient, image.name, round(0.01 + 0.9 * index / len(labelled.images[patient]), 4))
            for patient in rows["patient"]
            for index, image in enumerate(labelled.images[patient])
        ]
        table = pd.DataFrame(cells, columns=["patient", "image", "probability"])
        table.to_csv(path / f"fold-{fold}" / "instances.csv", index=False)
    return path
