"""One pass over a cohort's tables and images: everything that its numbers could be wrong by."""

from typing import Any

import numpy as np
import pandas as pd

from lymphoml.audit.duplicates import (
    DISTANCE,
    duplicate_findings,
    exact_duplicates,
    near_duplicates,
)
from lymphoml.audit.images import examine, image_findings
from lymphoml.audit.persons import LABELS, coincidences, person_findings, suspected_pairs
from lymphoml.audit.problems import SEVERITIES, Finding, below, exit_code, table_finding
from lymphoml.audit.ranges import class_counts, date_formats, table_findings, value_ranges
from lymphoml.audit.shortcuts import (
    LEVEL,
    PERMUTATIONS,
    examine_shortcuts,
    shortcut_fields,
    shortcut_findings,
)
from lymphoml.core.errors import InputError
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort, load_cohort_lenient, root_folder, table_paths
from lymphoml.data.decoding import Preprocessing

PRIVATE = "names patients by id and tells ages in years; treat it as you treat the cohort"


def audit(data: dict) -> dict[str, Any]:
    """Audit the cohort of a configuration's `data`; the content of `audit.json`, ready for JSON.

    Raises InputError only for settings that mean nothing. Keys, of which those behind `images` need
    a patient whose row can be read, and `shortcuts` both classes:

        private        what the file must not be taken for
        cohort         data.name
        fingerprint    of the labelled patients' table, 16 hex digits, to tell whether a run is of
                       the same cohort; None where no row can be read
        exit_code      0 clean, 1 warnings, 2 errors
        severities     {error, warning, note: number of findings}
        findings       [{severity, topic, what, where: [file, row or patient], action}], gravest
                       first; the rest are the numbers behind them
        images         {files, usable, modes: {RGB: n}, sizes: {"224 x 224": n}}
        duplicates     {distance, exact: [{files, patients}], near: [{files, patients, distance}]}
        bag_size       {least, median, most}
        classes        {records, tumoral, reactive, unlabelled, persons: {tumoral, reactive},
                       most_folds}: 0 where no number can hold both
        ranges         {column: {missing, least, median, most, outliers: [patient]}}
        dates          {column: {separator: {dates, ambiguous}}}
        persons        {expected_by_chance, pairs: [{patients, labels, tables, same_label,
                       across_tables, parted}]}; see `suspected_pairs`
        hard_stratum   {column, max, tumoral, reactive}; None where none is configured
        shortcuts      {level, permutations, clinical: [column],
                       fields: [{name, status, flagged, p, p_holm, p_adjusted,
                                 auroc, hard: {value, low, high, tumoral, reactive} or None,
                                 likelihood_ratio: {statistic, p} or {reason} or None}]}
    """
    root, survey = root_folder(data), load_cohort_lenient(data)
    framing = Preprocessing(data["crop"], data["resize"])
    findings = [table_finding(problem, root) for problem in survey.problems]
    records = examine(survey.images, root, framing)
    findings += image_findings(records, framing)
    exact, near = exact_duplicates(records), near_duplicates(records)
    content: dict[str, Any] = {
        "images": _image_counts(records),
        "duplicates": {"distance": DISTANCE, "exact": exact, "near": near},
    }
    sides = {}
    if survey.cohort is not None:
        tables = [below(path, root) for path, _ in table_paths(data)]
        table, origin = survey.cohort.table, survey.cohort.origin
        sides = {
            str(patient): f"{LABELS[label]}, {tables[number]}"
            for patient, label, number in zip(
                table.index, table["label"], origin["table"], strict=True
            )
        }
        found, told = _patients(survey.cohort, tables, records, data)
        findings += found
        content |= told
    findings += duplicate_findings(exact, near, sides)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return {
        "private": PRIVATE,
        "cohort": data["name"],
        "fingerprint": survey.cohort and survey.cohort.labelled.fingerprint()[:16],
        "exit_code": exit_code(findings),
        "severities": {s: sum(each.severity == s for each in findings) for s in SEVERITIES},
        "findings": [vars(each) | {"where": list(each.where)} for each in findings],
    } | content


def _image_counts(records: pd.DataFrame) -> dict[str, Any]:
    good = records[records["problem"] == ""]
    size = good["width"].astype(str) + " x " + good["height"].astype(str)
    return {
        "files": len(records),
        "usable": len(good),
        "modes": {str(mode): int(n) for mode, n in good["mode"].value_counts().items()},
        "sizes": {str(each): int(n) for each, n in size.value_counts().items()},
    }


def _patients(
    cohort: Cohort, tables: list[str], records: pd.DataFrame, data: dict
) -> tuple[list[Finding], dict[str, Any]]:
    ranges, dates, classes = value_ranges(cohort, data), date_formats(cohort), class_counts(cohort)
    findings = list(table_findings(ranges, dates, classes, data))
    pairs = suspected_pairs(cohort, tables, data["folds"])
    births = [name for name, each in data["columns"].items() if each["kind"] == "date_of_birth"]
    expected = coincidences(cohort.table, births[0], "sex") if pairs and len(births) == 1 else None
    findings += person_findings(pairs, expected)
    sizes = [len(paths) for paths in cohort.images.values()]
    content: dict[str, Any] = {
        "bag_size": {
            "least": min(sizes), "median": float(np.median(sizes)), "most": max(sizes),
        },
        "classes": classes,
        "ranges": ranges,
        "dates": dates,
        "persons": {"expected_by_chance": expected, "pairs": pairs},
    }  # fmt: skip
    labelled = cohort.labelled
    if classes["tumoral"] and classes["reactive"]:
        found, told = _shortcuts(labelled, records, data)
        findings += found
        content |= told
    return findings, content


def _shortcuts(
    cohort: Cohort, records: pd.DataFrame, data: dict
) -> tuple[list[Finding], dict[str, Any]]:
    labels = cohort.table["label"]
    hard = pd.Series(False, index=labels.index)
    stratum = data["hard_stratum"]
    if stratum is not None:
        hard = cohort.table[stratum["column"]] <= stratum["max"]
        reactive, tumoral = (int((hard & (labels == label)).sum()) for label in (0, 1))
        stratum = stratum | {"tumoral": tumoral, "reactive": reactive}
    fields = shortcut_fields(cohort, records)
    told = examine_shortcuts(fields, labels, hard, _clinical(cohort, data))
    content = {
        "level": LEVEL,
        "permutations": PERMUTATIONS,
        "clinical": data["clinical"],
        "fields": told,
    }
    return list(shortcut_findings(told)), {"hard_stratum": stratum, "shortcuts": content}


def _clinical(cohort: Cohort, data: dict) -> np.ndarray | None:
    """The features that a model would get, standardised; None where it would get none."""
    if not data["clinical"]:
        return None
    try:
        encoder = ClinicalEncoder.fit(
            cohort.table, data["columns"], data["clinical"], True, data["missing"]
        )
        return encoder.transform(cohort.table).astype(float)
    except InputError:  # a column without any value
        return None
