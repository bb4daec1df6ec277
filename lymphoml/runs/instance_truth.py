"""Join a run's predictions of single images with their known labels."""

from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_mapping
from lymphoml.evaluation.intervals import Estimate
from lymphoml.evaluation.pooled import within_bag_auroc
from lymphoml.runs.finished_run import read_run
from lymphoml.runs.run_folder import read_predictions_csv

ADVICE = "give the truth.json of a synthetic cohort, or a .csv with patient,image,truth"


def score_images(run: Path, truth: Path) -> tuple[Estimate, int]:
    """Return `within_bag_auroc` of a run's images for their `truth`, a file. Raises InputError."""
    found = read_run(run)
    instances = found.instances()
    if instances is None or instances.empty:
        raise InputError(f"{run}: has no per-image predictions")
    if left := set(found.predictions["patient"]) - set(instances["patient"]):
        raise InputError(
            f"{run}: {len(left)} patients have no per-image predictions, such as {min(left)}; "
            f"train with data.eval_bag_size=null, which uses all images"
        )
    return within_bag_auroc(join_truth(instances, truth, str(run)))


def join_truth(instances: pd.DataFrame, truth: Path, source: str) -> pd.DataFrame:
    """Return images (columns patient and image, of `source`) with their truth, in this order.

    Raises InputError where that is invalid or does not have them all.
    """
    known = _from_json(truth, instances) if truth.suffix == ".json" else _from_csv(truth)
    joined = instances.merge(known, on=["patient", "image"], how="left")
    missing = joined[joined["truth"].isna()]
    if len(missing):
        first = missing.iloc[0]
        raise InputError(
            f"{truth}: no truth for image {first['image']} of patient {first['patient']}, and for "
            f"{len(missing) - 1} more images of {source}; {ADVICE}"
        )
    return joined


def _from_json(path: Path, instances: pd.DataFrame) -> pd.DataFrame:
    patients: Any = read_mapping(path, ADVICE).get("patients")
    rows: list[tuple[str, str, int]] = []
    for patient, bag in instances.groupby("patient"):
        try:
            cells = patients[patient]["cells"]
            if set(cells) - {0, 1}:
                raise ValueError
            rows += zip([str(patient)] * len(bag), sorted(bag["image"]), cells, strict=True)
        except (TypeError, KeyError, ValueError):
            problem = f"no cells, 0 or 1 per image, for patient {patient}"
            raise InputError(f"{path}: {problem}; {ADVICE}") from None
    return pd.DataFrame(rows, columns=["patient", "image", "truth"])


def _from_csv(path: Path) -> pd.DataFrame:
    table = read_predictions_csv(path, ("patient", "image", "truth"))[["patient", "image", "truth"]]
    table["truth"] = pd.to_numeric(table["truth"], errors="coerce")
    invalid = ~table["truth"].isin([0, 1]) | table.duplicated(["patient", "image"])
    if invalid.any():
        row = table[invalid].iloc[0]
        raise InputError(f"{path}: {row['patient']}, {row['image']} must have one truth, 0 or 1")
    return table
