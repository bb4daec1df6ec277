"""What predictions were made from, so that no two cohorts share a folder or a submission."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from lymphoml.core import files
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.cohort import Cohort
from lymphoml.runs.checksums import SUMS
from lymphoml.runs.trained_on import TrainedOn, column_digests, differing_columns

MADE_FROM = "predictions.json"  # beside predictions.csv
AGAIN = "run predict.py again"


def cohort_digest(cohort: Cohort) -> str:
    """Return a digest of the tables of a cohort."""
    tables = [column_digests(each) for each in (cohort.labelled, cohort.unlabelled)]
    return sha256(json.dumps(tables).encode()).hexdigest()[:16]


def is_own_cohort(trained_on: Mapping[int, TrainedOn], cohort: Cohort, patients: str) -> bool:
    """Return whether `patients`, as of predict.py, are of the cohort that a fold trained with."""
    table, test = column_digests(cohort.labelled), column_digests(cohort.unlabelled)
    return any(
        not differing_columns(each.test_table, test)
        and (patients == "unlabelled" or not differing_columns(each.table, table))
        for each in trained_on.values()
    )


def choose_folder(run: Path, out: Path | None, digest: str, own: bool) -> Path:
    """Return `out`, or the run's folder for the cohort of this digest; refuse another's."""
    test = run / "test"
    if out is None:
        if not own:
            print("this is not the run's own cohort: its predictions go to a folder of their own")
        return test if own else run / f"test-{digest[:8]}"
    if out.resolve() == test.resolve():
        mixed = not own
    else:
        made_from = read_mapping(out / MADE_FROM, AGAIN) if (out / MADE_FROM).is_file() else {}
        holds = any((out / name).exists() for name in ("config.yaml", "predictions.csv"))
        mixed = holds and made_from.get("cohort") != digest
    if mixed:
        raise InputError(
            f"out={out}: holds a run, or predictions of another cohort; give another folder"
        )
    return out


def made_from(run: Path, members: Iterable[Path], digest: str, own: bool) -> dict[str, object]:
    """Return what `predictions.json` says of the run, the models and the cohort."""
    models = {each.resolve().name: files.sha256(each / SUMS) for each in members}
    return {"run": files.sha256(run / SUMS), "models": models, "cohort": digest, "own_cohort": own}


def check_own_predictions(run: Path) -> None:
    """Raise InputError unless `RUN/test` has the run's predictions of its own cohort."""
    path = run / "test" / "predictions.csv"
    if not path.exists():
        raise InputError(f"{path.parent} has no predictions of the run's own cohort; {AGAIN}")
    found = read_mapping(path.with_name(MADE_FROM), AGAIN)
    if found.get("own_cohort") is not True:
        raise InputError(
            f"{path}: its patients are not of the run's own cohort; {AGAIN} with that cohort"
        )
    for name, what in (("predictions_sha256", path), ("run", run / SUMS)):
        if found.get(name) != files.sha256(what):
            raise InputError(f"{what} has changed since {path} was predicted; {AGAIN}")
