"""Folds that leave one site (hospital) out at a time: `data.folds=site`."""

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.settings import GROUPED, MOST_FOLDS, DataConfig


def count_sites(data: DataConfig) -> int:
    """Return the number of sites with a labelled patient. Raises InputError."""
    if data.folds != MOST_FOLDS:
        raise InputError(f"data.site_folds with data.folds={data.folds}: set data.folds=site alone")
    alone = {"repeats": 1, "folds_csv": None, "fold_seed": None, "splitter": GROUPED}
    for key, unused in alone.items():
        if (value := getattr(data, key)) != unused:
            raise InputError(f"data.{key}={value}: has no effect with data.folds=site")
    return make_site_folds(load_cohort(data).labelled)["fold"].nunique()


def make_site_folds(cohort: Cohort) -> pd.DataFrame:
    """Return `patient, fold` of labelled patients: a fold per site, in the order of their names.

    Raises InputError where one class is left to train on, or a person has several sites.
    """
    if "site" not in cohort.origin:
        raise InputError("data.folds=site: needs data.site_column, the column of hospitals")
    sites, table, problems = cohort.origin["site"], cohort.table, []
    if sites.nunique() < 2:
        problems.append("data.folds=site: needs labelled patients of two sites or more")
    for _, person in sites.groupby(table["group"]):
        if person.nunique() > 1:
            problems.append(
                f"data.folds=site: patients {', '.join(person.index)} are probably one person, at "
                f"{' and '.join(sorted(person.unique()))}; give them one site, or leave one out"
            )
    for site in sorted(sites.unique()) if sites.nunique() > 1 else ():
        if table["label"][sites != site].nunique() < 2:
            problems.append(f"data.folds=site: without {site}, only one class is left to train on")
    if problems:
        raise InputError(problems)
    return pd.DataFrame({"patient": table.index, "fold": pd.factorize(sites, sort=True)[0]})
