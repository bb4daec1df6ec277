"""A folder of predictions, and what they were made from: no two cohorts share one."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core import files
from lymphoml.core.errors import InputError
from lymphoml.core.files import csv_text
from lymphoml.core.untrusted import read_bytes, read_mapping
from lymphoml.data.cache import bags_digest
from lymphoml.data.cohort import Cohort
from lymphoml.data.settings import DataConfig
from lymphoml.runs.checksums import SUMS
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.provenance import DATA, split_fingerprint
from lymphoml.runs.trained_on import BAGS, TrainedOn, column_digests, differing_columns

MADE_FROM = "predictions.json"  # beside predictions.csv
AGAIN = "run predict.py again"
MIXED = "holds a run, or predictions of another cohort or other folds; give another folder"


def choose(cohort: Cohort, patients: str) -> Cohort:
    """Return the patients that `patients`, `unlabelled` or `all`, names. Raises InputError."""
    if patients not in ("unlabelled", "all"):
        raise InputError(f"patients={patients}: must be unlabelled or all")
    chosen = cohort if patients == "all" else cohort.unlabelled
    if not len(chosen.table):
        raise InputError(
            f"cohort {cohort.name}: every patient has a label. patients=all predicts them all."
        )
    return chosen


def cohort_digest(cohort: Cohort, data: DataConfig | None = None) -> str:
    """Return a digest of the tables of a cohort and, of its settings, of what its bags hold."""
    parts: list[Any] = [column_digests(each) for each in (cohort.labelled, cohort.unlabelled)]
    if data is not None:
        parts.append(bags_digest(data, cohort.images))
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def is_own_cohort(
    trained_on: Mapping[int, TrainedOn], data: DataConfig, cohort: Cohort, patients: str
) -> bool:
    """Return whether `patients`, as of predict.py, are of the cohort that a fold trained with."""
    table, test = column_digests(cohort.labelled), column_digests(cohort.unlabelled)
    images = None
    if any(BAGS in each.test_table for each in trained_on.values()):
        test[BAGS] = bags_digest(data, cohort.unlabelled.images)
        if patients == "all" and data.feature_file is None:
            images = bags_digest(data, cohort.labelled.images)[:16]
    return any(
        not differing_columns(each.test_table, test)
        and (patients == "unlabelled" or not differing_columns(each.table, table))
        and images in (None, split_fingerprint(str(each.values.get(DATA)))[1])
        for each in trained_on.values()
    )


def own_folder(run: Path, folds: Sequence[int]) -> Path:
    """Return the folder of the own cohort's predictions, by all models or those of named folds."""
    return run / "-".join(["test", *(["folds"] if folds else []), *map(str, folds)])


def choose_folder(
    run: Path, out: Path | None, digest: str, own: bool, folds: Sequence[int] = ()
) -> Path:
    """Return `out`, or the run's folder for this cohort and `folds`; refuse another's."""
    default = own_folder(run, folds)
    if out is None:
        if own:
            return default
        print("this is not the run's own cohort: its predictions go to a folder of their own")
        return run / default.name.replace("test", f"test-{digest[:8]}")
    if out.resolve() == default.resolve():
        if own:
            return out
        raise InputError(f"out={out}: {MIXED}")
    return check_folder(out, digest, folds)


def check_folder(out: Path, digest: str, folds: Sequence[int] = ()) -> Path:
    """Return `out`. Raises InputError where it holds a run, a model, or other predictions."""
    found = read_mapping(out / MADE_FROM, AGAIN) if (out / MADE_FROM).is_file() else {}
    holds = any((out / name).exists() for name in ("config.yaml", "config.json", "predictions.csv"))
    if holds and (found.get("cohort"), found.get("folds", [])) != (digest, [*folds]):
        raise InputError(f"out={out}: {MIXED}")
    return out


def made_from(
    run: Path, members: Iterable[Path], digest: str, own: bool, folds: Sequence[int] = ()
) -> dict[str, object]:
    """Return what `predictions.json` says of the run, the models and the cohort."""
    models = {each.resolve().name: _digest(each, folds) for each in members}
    source = {"run": _digest(run, folds), "models": models, "cohort": digest, "own_cohort": own}
    return source | ({"folds": [*folds]} if folds else {})


def _digest(run: Path, folds: Sequence[int]) -> str:
    """Return that of a run's files, or of the files of named folds, which may be all there is."""
    lists = [fold_folder(run, fold) / SUMS for fold in folds] or [run / SUMS]
    return sha256(b"".join(map(read_bytes, lists))).hexdigest()


def summarize(probabilities: pd.DataFrame, outside: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over folds, how far these differ, the label and the longest reason."""
    mean, deviation = probabilities.mean(axis=1), probabilities.std(axis=1, ddof=0)
    columns = {
        "probability": mean,
        "standard_deviation": deviation.where(probabilities.count(axis=1) > 1),
        "lowest": probabilities.min(axis=1),
        "highest": probabilities.max(axis=1),
        "label": (mean > 0.5).astype(int),
        "outside_range": [max(row, key=len) for row in outside.itertuples(index=False)],
    }
    return pd.DataFrame(columns).rename_axis("patient").reset_index()


def write(
    out: Path, predictions: pd.DataFrame, header: tuple[str, str], source: Mapping[str, object],
    record: Callable[[str], None] = lambda digest: None,
) -> None:  # fmt: skip
    """Write both tables and what they were made from; `record` first gets the digest of one."""
    content = csv_text(out / "predictions.csv", predictions)
    submission = predictions[["patient", "label"]].set_axis(list(header), axis=1)
    sent = csv_text(out / "submission.csv", submission)
    digest = sha256(content.encode()).hexdigest()
    record(digest)
    # First: a folder with it is this command's own, which may be interrupted before the tables.
    files.write_json(out / MADE_FROM, {**source, "predictions_sha256": digest})
    files.write_text(out / "submission.csv", sent)
    files.write_text(out / "predictions.csv", content)
    tumoral, path = int(predictions["label"].sum()), out / "predictions.csv"
    print(f"{len(predictions)} patients, {tumoral} called tumoral: {path}")
    print(f"Kaggle file: {out / 'submission.csv'}")


def check_own_predictions(run: Path, folds: Sequence[int] = ()) -> Path:
    """Return the folder of the predictions of the own cohort. Raises InputError: none, changed."""
    path = own_folder(run, folds) / "predictions.csv"
    if not path.exists():
        others = ", ".join(sorted(each.name for each in run.glob("test-folds-*")))
        hint = f", or give the folds=[...] of {others}" if others else ""
        raise InputError(f"{path.parent} has no predictions of the run's own cohort; {AGAIN}{hint}")
    found = read_mapping(path.with_name(MADE_FROM), AGAIN)
    if found.get("own_cohort") is not True or found.get("folds", []) != [*folds]:
        others = "its patients are not of the run's own cohort, or its models of other folds"
        raise InputError(f"{path}: {others}; {AGAIN} with these")
    digests = {path: ("predictions_sha256", files.sha256(path)), run: ("run", _digest(run, folds))}
    for what, (key, digest) in digests.items():
        if found.get(key) != digest:
            raise InputError(f"{what} has changed since {path} was predicted; {AGAIN}")
    return path.parent
