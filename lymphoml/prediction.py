"""New patients through a run's folds: the mean of their probabilities, and how far they differ."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml import ledger, runs
from lymphoml.containment import refuse_links
from lymphoml.data.cohort import Cohort, read_cohort
from lymphoml.data.folds import split
from lymphoml.drift import fingerprints
from lymphoml.errors import InputError
from lymphoml.files import csv_text, write_text
from lymphoml.fold_probabilities import check_run, fold_probabilities
from lymphoml.members import mean_probability
from lymphoml.run_tables import read_columns
from lymphoml.submission import write_submission
from lymphoml.triage import apply_rule, read_rule


def predict(
    run: Path,
    members: Mapping[Path, dict[str, Any]],
    out: Path,
    patients: str,
    header: tuple[str, str],
) -> pd.DataFrame:
    """Write `predictions.csv` and `submission.csv` into `out`, a row a patient of the cohort.

    `members` are the runs whose models speak for `run`, itself or an ensemble's (`find_members`),
    each with its own configuration, but for where the cohort lies and what the machine can do;
    `patients` is `unlabelled` or `all`. Columns: patient, probability (mean over folds; in each
    fold that of the members' mean logit), standard_deviation (over folds, blank where one model
    spoke), label (1 where the probability is above 0.5), and, where the run has a rule-out rule,
    triage (`spare` or `test`, by `lymphoml.triage.apply_rule`). Who is known to the run, by id or
    as the person suspected behind another, is predicted by the models that did not train on that
    person, and by no other; where the table is not the run's, or the id is new, that is told.
    Where anybody has no label, the run's ledger counts it. Raises InputError where the cohort does
    not fit the run.
    """
    refuse_links(run)
    numbers = {member: check_run(member, config) for member, config in members.items()}
    rule = read_rule(run)
    said: list[pd.DataFrame] = []
    own = True
    for member, config in members.items():
        everybody = read_cohort(config["data"])
        own &= _is_own_cohort(member, everybody)
        cohort = _choose(everybody, patients)
        ids = list(cohort.table.index)
        if said and ids != list(said[0].index):
            raise InputError(
                f"run {member}: its data settings find other patients than those of "
                f"{next(iter(members))}; give data.root=DIR"
            )
        said.append(fold_probabilities(member, config, cohort, numbers[member]))
    probabilities = said[0]
    if len(said) > 1:
        probabilities = pd.DataFrame(mean_probability(said), ids, probabilities.columns)
    folds = read_columns(run / "folds.csv", ("patient", "fold"))
    known = sum(probabilities.index.isin(folds["patient"]))
    person = everybody.table["group"]
    if other := _leave_trained_out(probabilities, folds, config["data"]["folds"], person):
        print(
            f"{other} of these patients seem to be persons from whom the run learned under another "
            f"id (birth date and sex): each is predicted by the models that did not"
        )
    if known and not own:
        print(
            f"{known} of these patients have ids that the run learned from, in a table that is not "
            f"the run's: each is predicted by the models that did not learn from that id alone; "
            f"give other persons other ids"
        )
    mean, deviation = probabilities.mean(axis=1), probabilities.std(axis=1, ddof=0)
    predictions = pd.DataFrame(
        {
            "patient": ids,
            "probability": mean.to_numpy(),
            "standard_deviation": deviation.where(probabilities.count(axis=1) > 1).to_numpy(),
            "label": (mean > 0.5).astype(int).to_numpy(),
        }
    )
    if rule is not None:
        predictions["triage"] = apply_rule(run, rule, probabilities).to_list()
    content = csv_text(out / "predictions.csv", predictions)
    if unknown := int((cohort.table["label"] < 0).sum()):
        # Before the files: nobody is predicted unrecorded, wherever a kill strikes.
        digest = sha256(content.encode()).hexdigest()
        ledger.record(run, "predict", digest, unknown, transductive=runs.transductive(run))
    write_submission(predictions, ids, out / "submission.csv", header)
    write_text(out / "predictions.csv", content)
    return predictions


def _is_own_cohort(run: Path, cohort: Cohort) -> bool:
    table = cohort.labelled.fingerprint()[:16]
    return any(known.startswith(table) for known in fingerprints(runs.read_environment(run)))


def _leave_trained_out(
    probabilities: pd.DataFrame, folds: pd.DataFrame, per_repeat: int, person: pd.Series
) -> int:
    """Blank what each fold's model says of whom it learned from; returns how many by another id.

    `person` numbers those of the whole cohort. Where all models learned from a person, all speak.
    """
    theirs = pd.DataFrame(False, probabilities.index, probabilities.columns)
    own = person[probabilities.index]
    for fold in folds["fold"].unique():
        trained, _ = split(folds, fold, per_repeat)
        probabilities.loc[probabilities.index.isin(trained), fold] = float("nan")
        theirs[fold] = own.isin(person[person.index.isin(trained)]).to_numpy()
    theirs[probabilities.index.isin(folds["patient"])] = False  # known by id: that decides
    theirs[theirs.all(axis=1)] = False
    probabilities[theirs] = float("nan")
    return int(theirs.any(axis=1).sum())


def _choose(cohort: Cohort, patients: str) -> Cohort:
    if patients not in ("unlabelled", "all"):
        raise InputError(f"patients={patients}: allowed are unlabelled and all")
    chosen = cohort if patients == "all" else cohort.unlabelled
    if not len(chosen.table):
        raise InputError(
            f"cohort {cohort.name}: every patient has a label; patients=all predicts them all"
        )
    return chosen
