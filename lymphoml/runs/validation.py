"""Validate a run on a labelled cohort that none of its models was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort, subgroups
from lymphoml.data.persons import count_persons
from lymphoml.data.settings import DataConfig
from lymphoml.evaluation.calibration import (
    calibration_intercept,
    decision_curve,
    recalibration,
    reliability_bins,
)
from lymphoml.evaluation.cross_conformal import new_scores
from lymphoml.evaluation.intervals import proportion
from lymphoml.evaluation.summary import score_strata, to_json
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.known_patients import refuse_known, without_trained
from lymphoml.runs.predict import check_run, choose_patients, digest_cohort, mean_over_members
from lymphoml.runs.run_folder import SUBGROUPS, read_predictions_csv
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.trained_on import column_digests, differing_columns
from lymphoml.runs.triage_rule import apply_rule, read_rule


def validate(
    run: Path, members: Mapping[Path, TrainConfig], allow_unknown_encoder: bool = False
) -> dict[str, Any]:
    """Return the scores of a run's mean probability on the labelled patients of another cohort.

    `members` as for `predict`; content as of `assess`, with `cohort`, its `digest`, `persons`, and
    `shift` of `CohortShift.table` and of categories. Raises InputError where a patient was trained
    on, by person or images, where a class is missing, or where the cohort does not fit the run.
    """
    trained_on = {member: check_run(member, config) for member, config in members.items()}
    rule = read_rule(run)
    labelled = {member: load_cohort(config.data).labelled for member, config in members.items()}
    cohort, config = next(iter(labelled.values())), next(iter(members.values()))
    classes = cohort.table["label"].nunique()
    if classes < 2:
        found = "are of one class" if classes else "have no label"
        raise InputError(
            f"data.root={config.data.root}: its patients {found}; a validation needs tumoral and "
            f"reactive ones. Set data.root, data.label_column or data.label_values."
        )
    table = column_digests(cohort)
    if not all(differing_columns(each.table, table)
               for folds in trained_on.values() for each in folds.values()):  # fmt: skip
        raise InputError(
            f"data.root={config.data.root}: this is the table that the run was trained on; give "
            f"another cohort"
        )
    chosen, known = choose_patients(members, labelled, trained_on, "all", allow_unknown_encoder)
    refuse_known(known)
    shift = CohortShift()
    probabilities = mean_over_members(members, chosen, trained_on, shift)
    probabilities = without_trained(probabilities, known, own=False)
    shift.report(probabilities, strict=False)
    outside = shift.outside(probabilities)
    predictions = pd.DataFrame({
        "fold": 0, "label": cohort.table["label"], "probability": probabilities.mean(axis=1),
        "outside_range": outside.max(axis=1),
    }).rename_axis("patient").reset_index()  # fmt: skip
    groups = subgroups(cohort, config.data)
    if rule is not None:
        triage = apply_rule(run, rule, new_scores(probabilities, outside))
        predictions["triage"] = triage.to_list()
    return {
        "cohort": cohort.name, "digest": digest_cohort(members, cohort),
        "persons": count_persons(cohort, config.data), **assess(predictions, groups, rule),
        "shift": shift.table(config.data.birth_dates) + _categories(run, groups, config.data),
    }  # fmt: skip


def assess(
    predictions: pd.DataFrame, groups: pd.DataFrame, rule: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what `validation.json` says of predictions: patient, fold 0, label, probability, ...

    Also outside_range and, with a rule, triage; `groups` as of `subgroups`. All with 95 %
    intervals, None where undefined or infinite, as the slope of separated classes.

    scores            of all and of the hard stratum, and `single_records`, of `score_strata`
    calibration       intercept alone (slope 1), intercept and slope of both, `reliability_bins`
    decision_curve    of the probabilities as they are
    rule              sensitivity and specificity reached, missed, ruled_out; promised, guarantee
    """
    patients = predictions["label"], predictions["probability"]
    tumoral = predictions["label"] == 1
    m, n = int(tumoral.sum()), int((~tumoral).sum())
    scored = score_strata(predictions, groups, None, 1)
    both = recalibration(*patients)
    content: dict[str, Any] = {
        "patients": m + n, "tumoral": m, "reactive": n,
        "outside_range": int((predictions["outside_range"] != "").sum()),
        **{name: scored[name] for name in ("scores", "single_records")},
        "calibration": {"intercept": calibration_intercept(*patients)._asdict(),
                        "both": {"intercept": both[0]._asdict(), "slope": both[1]._asdict()},
                        "bins": reliability_bins(*patients).to_dict("list")},
        "decision_curve": decision_curve(*patients).to_dict("list"),
        "rule": None,
    }  # fmt: skip
    if rule is not None:
        ruled_out = predictions["triage"] == "rule_out"
        missed, cleared = int(ruled_out[tumoral].sum()), int(ruled_out[~tumoral].sum())
        content["rule"] = {
            "promised": rule["sensitivity"], "guarantee": rule["guarantee"],
            "threshold": rule["threshold"], "missed": missed, "ruled_out": cleared,
            "sensitivity": proportion(m - missed, m)._asdict(),
            "specificity": proportion(cleared, n)._asdict(),
        }  # fmt: skip
    return to_json(content)


def _categories(run: Path, groups: pd.DataFrame, data: DataConfig) -> list[dict[str, Any]]:
    """Return for each column of categories the share of each, here and among the run's patients."""
    strata = read_predictions_csv(run / SUBGROUPS, ["patient"])
    names = [name for name, column in data.columns.items() if column.kind == "categorical"]
    tables = {"shares": groups, "shares_training": strata}
    return [
        {"column": name} | {key: table[name].value_counts(normalize=True).sort_index().to_dict()
                            for key, table in tables.items()}
        for name in names if name in strata
    ]  # fmt: skip
