"""Several finished runs as one: the mean of their out-of-fold logits, in a run folder of its own.

Each member's prediction of a patient is by a model that did not train on this patient, so their
mean is out of fold as well, provided that all have the same folds. What a run folder tells of a
training is left empty: nothing was trained, and the best epoch of a mean is no epoch of anything.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lymphoml.core.errors import InputError, format_run_list
from lymphoml.core.files import write_csv, write_json, write_text
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.evaluation.summary import summarise
from lymphoml.reports.comparison.compare import align
from lymphoml.reports.comparison.reference import ROUNDING
from lymphoml.runs.ensemble import DIGESTS, ENSEMBLE, ROW_KEYS, mean_of_logits, predictions_digest
from lymphoml.runs.finished_run import HISTORY, Run, read_run
from lymphoml.runs.provenance import CHANGES
from lymphoml.runs.run_folder import read_config
from lymphoml.runs.tables import read_predictions_csv


def write_ensemble(paths: Sequence[Path], out: Path) -> pd.DataFrame:
    """Make `out` the run of this ensemble, `metrics.json` last; return its predictions.

    `config.yaml` is the first member's, with the members' names as `ensemble`, and a control where
    any member is one; strata are the first's too, and of the baselines those that all members
    share. Raises InputError where fewer than two runs are given, a run is unfinished, an ensemble
    itself or of other patients or folds, or `out` holds anything but this ensemble.
    """
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise InputError(f"runs={format_run_list(paths)}: an ensemble takes two runs or more, each once")
    members = [read_run(path) for path in paths]
    if nested := [run.path for run in members if ENSEMBLE in run.config]:
        raise InputError(f"runs: {nested[0]} is an ensemble itself; give the runs that it is of")
    align(members)
    first = members[0]
    names = [path.resolve().name for path in paths]
    control = any(run.config["data"].get("shuffle_bag_labels") for run in members)
    data = {**first.config["data"], "shuffle_bag_labels": control}
    config = {**first.config, "data": data, ENSEMBLE: names}
    _refuse_taken(out, names)
    predictions = mean_of_logits([member.predictions for member in members])
    histories = {fold: pd.DataFrame(columns=list(HISTORY)) for fold in first.histories}
    strata, baselines = _table(first, "strata"), _shared_baselines(members)
    metrics = summarise(
        predictions, histories, first.config["data"]["folds"],
        None if strata is None else strata.set_index("patient").astype(str), baselines,
        first.metrics.get("hard_max"),
    )  # fmt: skip

    (out / "metrics.json").unlink(missing_ok=True)  # unfinished, from here on
    write_text(out / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    words = f"runs=[{','.join(names)}]"
    write_json(out / "environment.json", _environment(members, words))
    write_csv(out / "folds.csv", first.folds)
    for fold, history in histories.items():
        folder = out / f"fold-{fold}"
        write_csv(folder / "predictions.csv", predictions[predictions["fold"] == fold])
        write_csv(folder / "history.csv", history)
        write_json(folder / "done.json", {"fold": fold, "epochs": 0, "selected_epoch": None})
    write_csv(out / "predictions.csv", predictions)
    for name, table in (("strata", strata), ("baselines", baselines)):
        if table is None:
            (out / f"{name}.csv").unlink(missing_ok=True)  # of members as they were before
        else:
            write_csv(out / f"{name}.csv", table)
    write_json(out / "metrics.json", metrics)
    return predictions


def _refuse_taken(out: Path, names: list[str]) -> None:
    if not out.exists():
        return
    reject_symlinks(out)
    known = read_config(out) if out.is_dir() else None
    empty = out.is_dir() and not any(out.iterdir())
    if not empty and (known is None or known.get(ENSEMBLE) != names):
        raise InputError(f"out={out}: holds something else already; choose another")


def _environment(members: Sequence[Run], words: str) -> dict[str, Any]:
    """The first member's, but for the drift of all and the command, which tells no place."""
    command = f"python -m lymphoml ensemble {words} out=RUN"
    environment = {**members[0].environment, "command": command}
    environment[DIGESTS] = [predictions_digest(run.path) for run in members]
    if drifted := [each for run in members for each in run.environment.get(CHANGES, [])]:
        environment[CHANGES] = drifted
    return environment


def _shared_baselines(members: Sequence[Run]) -> pd.DataFrame | None:
    """Those that every member fitted alike: of other data settings no gain could be told."""
    tables = [_table(run, "baselines") for run in members]
    told = [table.set_index(ROW_KEYS) for table in tables if table is not None]
    if len(told) < len(members):
        return None
    first = told[0]
    alike = [
        name
        for name in first
        if all(
            name in table and (table[name] - first[name]).abs().max() <= ROUNDING for table in told
        )
    ]
    return first[alike].reset_index()


def _table(run: Run, name: str) -> pd.DataFrame | None:
    path = run.path / f"{name}.csv"
    return read_predictions_csv(path, ["patient"]) if path.exists() else None
