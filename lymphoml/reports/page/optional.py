"""What a run folder may hold beside what makes it a run: None where it does not."""

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.runs.finished_run import Run
from lymphoml.runs.tables import RERUN, read_predictions_csv


def read_hard(run: Run) -> pd.Series | None:
    """Whether in the hard stratum, by patient of whom that is known.

    None also where the cohort declares no stratum.
    """
    path = run.path / "strata.csv"
    if not path.is_file():
        return None
    strata = read_predictions_csv(path, ("patient",)).set_index("patient")
    if "hard" not in strata:
        return None
    hard = strata["hard"].astype(str)  # text already where anybody's is unknown
    return hard[hard != "unknown"] == "1"


def read_baseline(run: Run, name: str) -> pd.DataFrame | None:
    """`run.predictions` with the probabilities of a baseline; None where the run has it not."""
    path, keys = run.path / "baselines.csv", ["patient", "fold"]
    if not path.is_file():
        return None
    table = read_predictions_csv(path, ("patient", "fold"))
    if name not in table:
        return None
    table = table[[*keys, name]].astype({"fold": int})
    table[name] = pd.to_numeric(table[name], errors="coerce")
    if not table[name].between(0, 1).all() or table.duplicated(keys).any():
        raise InputError(
            f"{path}: column {name} holds what is no probability, or a patient twice in a fold; "
            f"remove it, and {RERUN}"
        )
    rows = run.predictions.drop(columns="probability").merge(table, on=keys, how="left")
    if rows[name].isna().any():
        raise InputError(f"{path}: lacks patients of predictions.csv; remove it, and {RERUN}")
    return rows.rename(columns={name: "probability"})


def baselines_told(run: Run) -> list[str]:
    """The names that `read_baseline` takes."""
    path, keys = run.path / "baselines.csv", ("patient", "fold")
    table = read_predictions_csv(path, keys) if path.is_file() else pd.DataFrame()
    return [name for name in table.columns if name not in keys]


def stratum_in_words(run: Run) -> str:
    """Who is in the hard stratum: `lymphocyte count at most 8`."""
    declared = run.config["data"].get("hard_stratum") or {}
    column = str(declared.get("column", "the declared column")).replace("_", " ")
    cut = declared.get("max", run.metrics.get("hard_max"))
    return f"{column} at most {'the cut' if cut is None else format(cut, 'g')}"


def read_instances(run: Run) -> pd.DataFrame | None:
    """patient, image, probability: what the model that had not seen the patient says of one image.

    A mean over repeats. None unless every fold tells.
    """
    paths = [run.path / f"fold-{fold}" / "instances.csv" for fold in run.histories]
    if not all(path.is_file() for path in paths):
        return None
    columns = ("patient", "image", "probability")
    rows = pd.concat([read_predictions_csv(path, columns) for path in paths])
    rows["probability"] = rows["probability"].astype(float)
    return rows.groupby(["patient", "image"])[["probability"]].mean().reset_index()
