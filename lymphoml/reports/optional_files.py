"""Read the files that a run folder may have: strata, baselines, predictions of single images."""

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.runs.finished_run import Run
from lymphoml.runs.tables import RERUN, read_predictions_csv

KEYS = ["patient", "fold"]


def read_hard_stratum(run: Run) -> pd.Series | None:
    """Whether each patient is in the hard stratum, where that is known; None without a stratum."""
    path = run.path / "strata.csv"
    if not path.is_file():
        return None
    strata = read_predictions_csv(path, ("patient",)).set_index("patient")
    if "hard" not in strata:
        return None
    hard = strata["hard"].astype(str)
    return hard[hard != "unknown"] == "1"


def describe_hard_stratum(run: Run) -> str:
    """`lymphocyte count at most 8`."""
    stratum = run.config["data"].get("hard_stratum") or {}
    column = str(stratum.get("column", "the declared column")).replace("_", " ")
    highest = stratum.get("max", run.metrics.get("hard_max"))
    return f"{column} at most {'the declared value' if highest is None else format(highest, 'g')}"


def baseline_names(run: Run) -> list[str]:
    """The baselines of baselines.csv."""
    path = run.path / "baselines.csv"
    table = read_predictions_csv(path, tuple(KEYS)) if path.is_file() else pd.DataFrame()
    return [name for name in table.columns if name not in KEYS]


def read_baseline(run: Run, name: str) -> pd.DataFrame | None:
    """`run.predictions` with the probabilities of a baseline; None where the run lacks it.

    Raises InputError where a probability is missing, duplicated or outside 0 to 1.
    """
    path = run.path / "baselines.csv"
    if name not in baseline_names(run):
        return None
    table = read_predictions_csv(path, tuple(KEYS))[[*KEYS, name]].astype({"fold": int})
    table[name] = pd.to_numeric(table[name], errors="coerce")
    if not table[name].between(0, 1).all() or table.duplicated(KEYS).any():
        raise InputError(
            f"{path}: column {name} has invalid probabilities or duplicate patients; remove the "
            f"file, and {RERUN}"
        )
    rows = run.predictions.drop(columns="probability").merge(table, on=KEYS, how="left")
    if len(table) != len(rows) or rows[name].isna().any():
        raise InputError(
            f"{path}: has other patients or folds than predictions.csv; remove the file, and {RERUN}"
        )
    return rows.rename(columns={name: "probability"})


def read_instances(run: Run) -> pd.DataFrame | None:
    """Out-of-fold probability of each image, averaged over repeats: patient, image, probability.

    None unless every fold has an instances.csv.
    """
    paths = [run.path / f"fold-{fold}" / "instances.csv" for fold in run.histories]
    if not all(path.is_file() for path in paths):
        return None
    columns = ("patient", "image", "probability")
    rows = pd.concat([read_predictions_csv(path, columns) for path in paths])
    rows["probability"] = rows["probability"].astype(float)
    return rows.groupby(["patient", "image"])[["probability"]].mean().reset_index()
