"""What is known of single images, beside what a run's models say of them."""

from pathlib import Path

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_mapping
from lymphoml.reports.page.optional import read_instances
from lymphoml.runs.finished_run import read_run
from lymphoml.runs.tables import read_predictions_csv

ADVICE = "give the truth.json of a synthetic cohort, or a .csv of patient,image,truth"


def with_truth(run: Path, truth: Path) -> pd.DataFrame:
    """A row an image: patient, image, probability, truth. Out of fold, a mean over repeats.

    Raises InputError where an image of the run's is not told, and where the run tells of none.
    """
    instances = read_instances(read_run(run))
    if instances is None or instances.empty:
        raise InputError(f"{run}: tells nothing of single images; its model looks at none, or few")
    known = _from_json(truth, instances) if truth.suffix == ".json" else _from_csv(truth)
    joined = instances.merge(known, on=["patient", "image"], how="left")
    untold = joined[joined["truth"].isna()]
    if len(untold):
        first = untold.iloc[0]
        raise InputError(
            f"{truth}: image {first['image']} of patient {first['patient']} is not told, nor are "
            f"{len(untold) - 1} more of {run}; {ADVICE}"
        )
    return joined


def _from_json(path: Path, instances: pd.DataFrame) -> pd.DataFrame:
    patients = read_mapping(path, ADVICE).get("patients")
    rows: list[tuple[str, str, int]] = []
    for patient, bag in instances.groupby("patient"):
        told = patients.get(patient) if isinstance(patients, dict) else None
        cells = told.get("cells") if isinstance(told, dict) else None
        if not isinstance(cells, list) or len(cells) != len(bag) or set(cells) - {0, 1}:
            raise InputError(f"{path}: no cells, 0 or 1 an image, of patient {patient}; {ADVICE}")
        rows += zip([str(patient)] * len(bag), sorted(bag["image"]), cells, strict=True)
    return pd.DataFrame(rows, columns=["patient", "image", "truth"])


def _from_csv(path: Path) -> pd.DataFrame:
    table = read_predictions_csv(path, ("patient", "image", "truth"))[["patient", "image", "truth"]]
    truth = pd.to_numeric(table["truth"], errors="coerce")
    wrong = ~truth.isin([0, 1]) | table.duplicated(["patient", "image"])
    if wrong.any():
        row = table[wrong].iloc[0]
        raise InputError(
            f"{path}: image {row['image']} of patient {row['patient']} needs one truth, 0 or 1"
        )
    return table.assign(truth=truth)
