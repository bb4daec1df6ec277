"""One pass over a cohort's tables and images: everything that could make its scores wrong."""

from typing import Any

import numpy as np
import pandas as pd

from lymphoml.audit import clinical, images, shortcuts
from lymphoml.audit.findings import EXIT_CODES, SEVERITIES, below, problem_finding
from lymphoml.data.cache import bags_digest
from lymphoml.data.cohort import Cohort, load_cohort_lenient, table_paths
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_folders import Unused, root_folder
from lymphoml.data.persons import count_persons
from lymphoml.data.settings import GROUPED, DataConfig

PRIVATE = "names patients by id and holds ages in years: protect it as you protect the cohort"


def audit(data: DataConfig) -> dict[str, Any]:
    """Audit the cohort of a configuration's `data`; return the content of `audit.json`.

    Keys from `bag_size` on need a patient whose row can be read, the last two both classes:

        private, cohort, fingerprint, images_fingerprint (of the labelled, 16 hex digits or None)
        exit_code      0 clean, 1 warnings, 2 errors
        severities     {error, warning, note: number of findings}
        findings       [{severity, topic, what, where: [file, row or patient], action}]
        images         {files, usable, unused: {"*.png": n}, modes: {RGB: n}, sizes: {"9 x 9": n}}
        duplicates     {distance, exact: [{files, patients}], near: [{files, patients, distance}]}
        bag_size       {min, median, max}
        classes        {records, tumoral, reactive, unlabelled, persons: {tumoral, reactive},
                       max_folds}: 0 where no number of folds has both classes in each
        ranges         {column: {missing, min, median, max, outliers: [patient]}}
        dates          {column: {separator: {dates, ambiguous}}}
        persons        {see `count_persons`, expected_by_chance, pairs: [see `suspected_pairs`]}
        hard_stratum   {column, max, tumoral, reactive}; None where none is configured
        shortcuts      {level, permutations, fields: [see `examine_shortcuts`]}

    Raises InputError only for invalid settings.
    """
    root, (cohort, bags) = root_folder(data), load_cohort_lenient(data)
    preprocessing = Preprocessing(data.crop, data.resize)
    records = images.examine(bags.images, root, preprocessing)
    findings = [problem_finding(problem, root) for problem in bags.problems]
    findings += images.image_findings(records, preprocessing)
    findings += images.unused_findings(bags.unused)
    exact, near = images.exact_duplicates(records), images.near_duplicates(records)
    content: dict[str, Any] = {
        "images": _image_counts(records, sum(bags.unused.values(), Unused())),
        "duplicates": {"distance": images.DISTANCE, "exact": exact, "near": near},
    }
    labels: dict[str, str] = {}
    if cohort is not None:
        tables = [below(path, root) for path, _ in table_paths(data)]
        rows = zip(cohort.table["label"].items(), cohort.origin["table"], strict=True)
        labels = {str(patient): f"{clinical.LABELS[label]}, {tables[number]}"
                  for (patient, label), number in rows}  # fmt: skip
        content |= _clinical(cohort, tables, data) | _shortcuts(cohort.labelled, records, data)
        stratum, grouped = data.hard_stratum, data.splitter == GROUPED
        folds = data.folds if grouped and not data.site_folds else 2
        findings += [
            *clinical.range_findings(content["ranges"], stratum.column if stratum else None),
            *clinical.constant_findings(cohort.labelled, data),
            *clinical.date_findings(content["dates"], data.date_formats),
            *clinical.class_findings(content["classes"], folds),
            *clinical.site_findings(cohort.labelled, data),
            *clinical.person_findings(content["persons"], grouped),
            *shortcuts.shortcut_findings(content.get("shortcuts", {"fields": []})["fields"]),
        ]
    findings += images.duplicate_findings(exact, near, labels)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return {
        "private": PRIVATE, "cohort": data.name,
        **_fingerprints(cohort and cohort.labelled, data),
        "exit_code": max((EXIT_CODES[each.severity] for each in findings), default=0),
        "severities": {s: sum(each.severity == s for each in findings) for s in SEVERITIES},
        "findings": [vars(each) | {"where": list(each.where)} for each in findings],
    } | content  # fmt: skip


def _fingerprints(cohort: Cohort | None, data: DataConfig) -> dict[str, str | None]:
    """Return those that the report compares with the run's."""
    if cohort is None:
        return {"fingerprint": None, "images_fingerprint": None}
    images = bags_digest(data, cohort.images)
    return {"fingerprint": cohort.fingerprint()[:16], "images_fingerprint": images[:16]}


def _image_counts(records: pd.DataFrame, unused: Unused) -> dict[str, Any]:
    good = images.usable(records)
    return {
        "files": len(records), "usable": len(good), "unused": dict(unused),
        "modes": {str(mode): int(n) for mode, n in good["mode"].value_counts().items()},
        "sizes": {str(each): int(n) for each, n in images.sizes(good).value_counts().items()},
    }  # fmt: skip


def _clinical(cohort: Cohort, tables: list[str], data: DataConfig) -> dict[str, Any]:
    sites = cohort.labelled.origin["site"].nunique() if data.site_column else 0
    folds = max(2, sites) if data.site_folds else data.folds
    pairs = clinical.suspected_pairs(cohort, tables, folds)
    expected = None
    if pairs and not data.person_column and len(data.birth_dates) == 1:
        (name,) = data.birth_dates
        if not getattr(data.columns[name], "calendar_years", False):  # which have no days
            expected = clinical.coincidences(cohort.table, name, data.sexes[0])
    sizes = [len(paths) for paths in cohort.images.values()]
    return {
        "bag_size": {"min": min(sizes), "median": float(np.median(sizes)), "max": max(sizes)},
        "classes": clinical.class_counts(cohort),
        "ranges": clinical.value_ranges(cohort, data),
        "dates": clinical.date_formats(cohort),
        "persons": count_persons(cohort, data) | {"expected_by_chance": expected, "pairs": pairs},
    }


def _shortcuts(cohort: Cohort, records: pd.DataFrame, data: DataConfig) -> dict[str, Any]:
    labels, stratum, counts = cohort.table["label"], data.hard_stratum, None
    if labels.nunique() < 2:
        return {}
    hard = pd.Series(False, index=labels.index)
    if stratum is not None:
        hard = cohort.table[stratum.column] <= stratum.max
        reactive, tumoral = (int((hard & (labels == label)).sum()) for label in (0, 1))
        counts = stratum.to_dict() | {"tumoral": tumoral, "reactive": reactive}
    fields = shortcuts.shortcut_fields(cohort, records)
    examined = shortcuts.examine_shortcuts(fields, labels, hard)
    limits = {"level": shortcuts.LEVEL, "permutations": shortcuts.PERMUTATIONS}
    return {"hard_stratum": counts, "shortcuts": limits | {"fields": examined}}
