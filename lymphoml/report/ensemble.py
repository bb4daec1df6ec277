"""Several finished runs as one: the mean of their out-of-fold logits, in a run folder of its own.

Each member's prediction of a patient is by a model that did not train on this patient, so their
mean is out of fold as well, provided that all have the same folds. What a run folder tells of a
training is left empty: nothing was trained, and the best epoch of a mean is no epoch of anything.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lymphoml import seen
from lymphoml.containment import refuse_links
from lymphoml.errors import InputError
from lymphoml.evaluation.summary import summarise
from lymphoml.files import write_csv, write_json, write_text
from lymphoml.report.alignment import align
from lymphoml.report.runs import HISTORY, Run, read_run
from lymphoml.runs import read_config, read_table

KEYS = ["patient", "fold"]
SUREST = 2.0**-24  # from 0 or 1, of a probability in single precision: a logit is finite


def write_ensemble(paths: Sequence[Path], out: Path) -> pd.DataFrame:
    """Make `out` the run of this ensemble, `metrics.json` last; return its predictions.

    `config.yaml` is the first member's, with the members' names as `ensemble`; the baselines and
    strata are the first's too. Raises InputError where fewer than two runs are given, a run is
    unfinished or of other patients or folds, or `out` holds anything but this ensemble.
    """
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise InputError(f"runs={_listed(paths)}: an ensemble takes two runs or more, each once")
    members = [read_run(path) for path in paths]
    align(members)
    first = members[0]
    names = [path.resolve().name for path in paths]
    config = {**first.config, "ensemble": names}
    _refuse_taken(out, names)
    predictions = mean_of_logits([member.predictions for member in members])
    histories = {fold: pd.DataFrame(columns=list(HISTORY)) for fold in first.histories}
    strata, baselines = (_table(first, name) for name in ("strata", "baselines"))
    metrics = summarise(
        predictions, histories, first.config["data"]["folds"],
        None if strata is None else strata.set_index("patient").astype(str), baselines,
        first.metrics.get("hard_cut"),
    )  # fmt: skip
    if accounts := [told for run in members if (told := run.metrics.get(seen.ACCOUNT))]:
        metrics[seen.ACCOUNT] = seen.together(accounts)

    write_text(out / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    words = f"runs=[{','.join(names)}]"
    write_json(out / "environment.json", _environment(first, words))
    write_csv(out / "folds.csv", first.folds)
    for fold, history in histories.items():
        folder = out / f"fold-{fold}"
        write_csv(folder / "predictions.csv", predictions[predictions["fold"] == fold])
        write_csv(folder / "history.csv", history)
        write_json(folder / "done.json", {"fold": fold, "epochs": 0, "selected_epoch": None})
    write_csv(out / "predictions.csv", predictions)
    for name, table in (("strata", strata), ("baselines", baselines)):
        if table is not None:
            write_csv(out / f"{name}.csv", table)
    write_json(out / "metrics.json", metrics)
    return predictions


def mean_of_logits(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The first table, with the probability of the mean of all tables' logits.

    Tables have the columns patient, fold, label, probability, and the same patients and folds.
    """
    order = pd.MultiIndex.from_frame(tables[0][KEYS])
    columns = [table.set_index(KEYS)["probability"].loc[order].to_numpy(float) for table in tables]
    probabilities = np.clip(columns, SUREST, 1 - SUREST)
    logit = np.log(probabilities / (1 - probabilities)).mean(axis=0)
    return tables[0].assign(probability=1 / (1 + np.exp(-logit)))


def refuse_ensemble(run: Path) -> None:
    """Raises InputError where the run has no models of its own."""
    members = (read_config(run) or {}).get("ensemble")
    if members:
        raise InputError(
            f"run={run}: is an ensemble and has no models of its own; predict with its members, "
            f"{', '.join(map(str, members))}, and average their logits"
        )


def _refuse_taken(out: Path, names: list[str]) -> None:
    if not out.exists():
        return
    refuse_links(out)
    known = read_config(out) if out.is_dir() else None
    empty = out.is_dir() and not any(out.iterdir())
    if not empty and (known is None or known.get("ensemble") != names):
        raise InputError(f"out={out}: holds something else already; choose another")


def _environment(first: Run, words: str) -> dict[str, Any]:
    """The first member's, but for the command: the members are told by name, not by place."""
    command = f"python -m lymphoml ensemble {words} out=RUN"
    return {**first.environment, "command": command}


def _table(run: Run, name: str) -> pd.DataFrame | None:
    path = run.path / f"{name}.csv"
    return read_table(path) if path.exists() else None


def _listed(paths: Sequence[Path]) -> str:
    return f"[{','.join(map(str, paths))}]"
