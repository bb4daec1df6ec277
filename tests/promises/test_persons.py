"""Persons and hospitals"""

import json
import os
import shutil
from datetime import datetime

import pandas as pd
import pytest
import torch

from lymphoml.audit.run import audit
from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.page.page import write_report
from lymphoml.reports.run_summary import print_run
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, TABLE, configuration

OWN = ["data=table", "trainer.max_epochs=1"]
GENDER = ["~data.columns.sex",
          "+data.columns.gender={kind:categorical,column:GENDER,values:{F:F,M:M}}"]  # fmt: skip
NEITHER = ["~data.columns.sex"]


@pytest.fixture(scope="session")
def smears(cohort, tmp_path_factory):
    """A table of one's own: every second person has two smears, P-1 and P-2; three hospitals."""
    folder = tmp_path_factory.mktemp("smears")
    numbers, own = {}, []
    for row in pd.read_csv(cohort / TABLE, dtype=str).to_dict("records"):
        form = "%m/%d/%Y" if "/" in row["DOB"] else "%d-%m-%Y"
        row["DOB"] = str(datetime.strptime(row["DOB"], form).date())
        row["GENDER"] = row["GENDER"].upper()
        number = numbers.setdefault((row["DOB"], row["GENDER"]), len(numbers))
        for smear in range(1, 3 if number % 2 else 2):
            name = f"{row['ID']}-{smear}"
            own.append(row | {"ID": name, "PERSON": f"{number:03}", "SITE": "ABC"[number % 3]})
            shutil.copytree(cohort / TABLE.parent / row["ID"], folder / "images" / name)
    pd.DataFrame(own).to_csv(folder / "clinical.csv", index=False)
    return folder


def table(smears):
    return pd.read_csv(smears / "clinical.csv", dtype=str)


@pytest.fixture
def trained(smears, tmp_path, few_trees):
    def train(*words):
        run = tmp_path / "run"
        cross_validate(configuration(smears, tmp_path / "cache", *OWN, *CLINICAL, *words), run)
        return run, pd.read_csv(run / "predictions.csv", dtype={"patient": str})

    return train


@pytest.mark.parametrize(("words", "rule"), [
    (GENDER, "birth date and sex"),
    ([*NEITHER, "data.person_column=PERSON"], "data.person_column=PERSON"),
    (NEITHER, None),
], ids=["gender", "column", "neither"])  # fmt: skip
def test_records_of_one_person_share_a_fold(smears, trained, capsys, words, rule):
    """two smears a person, the sex under another name, or persons named by a column → one fold a
    person; the terminal, metrics.json and the report say by which rule, how many persons have
    several records, and the scores without them; without a rule, a line that says so"""
    run, predictions = trained(*words, "data.repeats=2")
    predictions = predictions.merge(table(smears), left_on="patient", right_on="ID")
    predictions = predictions.rename(columns={"PERSON": "person"})
    repeats = predictions.groupby([predictions["fold"] // 2, "person"])
    persons = json.loads((run / "metrics.json").read_text())["persons"]
    print_run(run)
    printed = capsys.readouterr().out
    page = " ".join(write_report(run, run / "report.html").read_text().split())
    if rule is None:
        assert repeats["fold"].nunique().max() == 2
        unknown = predictions["patient"].nunique()
        assert persons == {"rule": None, "unknown": unknown, "several": 0, "records": 0}
        assert printed.count("cannot be recognised") == 2  # at training, and of the run
        assert "Records of one person cannot be recognised" in page
        return
    assert repeats["fold"].nunique().max() == 1
    sizes = predictions.groupby("person")["patient"].nunique()
    several = sizes.index[sizes > 1]
    counts = {"several": len(several), "records": int(sizes[several].sum())}
    assert persons == {"rule": rule, "unknown": 0} | counts
    left = predictions[~predictions["person"].isin(several)]
    score = pool(left, 2, ["auroc"])["auroc"]
    shown = f"AUROC {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    assert "without persons of several records: Balanced accuracy" in printed
    assert shown in printed
    line = f"persons are recognised by {rule}: {counts['several']} have several records"
    assert printed.count(f"{line}, {counts['records']} in all") == 2
    assert f"Persons are recognised by {rule}" in page
    assert shown.replace("AUROC ", "AUROC <b>") in page


def test_folds_that_split_persons_say_so(smears, trained, capsys):
    """data.splitter=kfold, whose folds may hold out one smear of a person and train on the other →
    training, terminal, metrics.json and report say how many persons that are"""
    run, predictions = trained(*GENDER, "data.splitter=kfold", "seed=42", "data.folds=5")
    own = predictions.merge(table(smears), left_on="patient", right_on="ID")
    split = int((own.groupby("PERSON")["fold"].nunique() > 1).sum())
    assert split > 1
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["persons"]["in_several_folds"] == split
    print_run(run)
    line = f"{split} of these persons are both trained on and held out"
    assert capsys.readouterr().out.count(line) == 2
    page = " ".join(write_report(run, run / "report.html").read_text().split())
    assert line in page
    tripod = f"of persons, by birth date and sex, {split} are both trained on and held out"
    assert f"shuffled, not stratified; {tripod}" in page


@pytest.mark.parametrize("words", [
    {"person_column": "PERSON", "site_column": "SITE", "folds": "site"}, {},
], ids=["column", "neither"])  # fmt: skip
def test_the_audit_names_records_of_one_person(smears, tmp_path, words):
    """the audit of a cohort whose persons have two smears, some with other labels → the pairs, and
    that labels differ, and each site's classes; or a warning that they cannot be recognised"""
    shutil.copytree(smears, tmp_path / "own")
    own = table(smears)
    second = own["ID"].str.endswith("-2").idxmax()
    own.loc[second, "LABEL"] = str(1 - int(own.loc[second, "LABEL"]))
    own.to_csv(tmp_path / "own" / "clinical.csv", index=False)
    data = data_config("table", {"root": str(tmp_path / "own")} | words)
    columns = {name: each for name, each in data.to_dict()["columns"].items() if name != "sex"}
    found_by_audit = audit(data.replace({"columns": columns}))
    findings = found_by_audit["findings"]
    (found,) = (each for each in findings if each["topic"] == "person")
    assert found["severity"] == "warning"
    if words:
        assert "pairs of records share data.person_column=PERSON" in found["what"]
        assert "the labels of 1 pair differ" in found["what"]
        sites = [each for each in findings if each["topic"] == "site"]
        assert [each["what"][:7] for each in sites] == ["site A:", "site B:", "site C:"]
        assert not [each for each in findings if each["severity"] == "error"]
        fields = found_by_audit["shortcuts"]["fields"]
        assert {"site A", "site B", "site C"} <= {each["name"] for each in fields}
    else:
        assert "cannot be recognised" in found["what"]


SITES = [*GENDER, "data.folds=site", "data.site_column=SITE"]


def test_one_site_is_left_out_at_a_time(smears, trained, capsys):
    """data.folds=site → a fold a hospital, in the order of their names; scores per site in
    metrics.json, on the terminal and in the report; the model has the inputs that it had"""
    run, predictions = trained(*SITES)
    own = table(smears).set_index("ID")["SITE"]
    assert predictions["fold"].tolist() == predictions["patient"].map(own).map("ABC".index).tolist()
    found = {each["site"]: each for each in json.loads((run / "metrics.json").read_text())["sites"]}
    capsys.readouterr()
    print_run(run)
    printed, page = capsys.readouterr().out, write_report(run, run / "report.html").read_text()
    for fold, site in enumerate("ABC"):
        rows = predictions[predictions["fold"] == fold]
        score = pool(rows, 3, ["auroc"])["auroc"]
        assert (found[site]["n"], found[site]["auroc"]) == (len(rows), score)
        shown = f"AUROC {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
        assert shown in next(line for line in printed.splitlines() if f"site {site}," in line)
        assert f"{site} ({len(rows)})" in page
    assert "one site left out at a time; records of one person, by birth date and sex" in page
    assert "see the scores of each site" in page
    assert "the run has no clusters" not in page
    bags = torch.load(run / "fold-0" / "last.ckpt", weights_only=True)["BagDataModule"]
    assert list(bags["schema"]) == ["age", "lymphocyte_count"]


def test_a_site_of_one_class_has_the_scores_that_it_can_have(smears, tmp_path, few_trees, capsys):
    """a hospital with tumoral patients alone → trained and scored: its sensitivity, and n/a for
    what needs the other class, in every epoch too"""
    shutil.copytree(smears, tmp_path / "own")
    own = table(smears)
    own.loc[(own["SITE"] == "A") & (own["LABEL"] == "0"), "SITE"] = "B"
    own.to_csv(tmp_path / "own" / "clinical.csv", index=False)
    words = [*OWN, *CLINICAL, *SITES]
    config = configuration(tmp_path / "own", tmp_path / "cache", *words)
    cross_validate(config, tmp_path / "run")
    assert "balanced accuracy n/a (one class only)" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    site = metrics["sites"][0]
    assert (site["auroc"]["value"], site["specificity"]["value"]) == (None, None)
    assert 0 <= site["sensitivity"]["low"] <= site["sensitivity"]["high"] <= 1
    assert metrics["auroc"]["value"] is not None
    assert [fold["best_epoch"] for fold in metrics["folds"]] == [None, 0, 0]
    print_run(tmp_path / "run")
    assert "site A, " in capsys.readouterr().out
    assert "n/a" in write_report(tmp_path / "run", tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("edit", "words", "says"), [
    ({}, ["data.repeats=2"], "data.repeats=2: has no effect with data.folds=site"),
    ({}, ["data.fold_seed=2"], "data.fold_seed=2: has no effect with data.folds=site"),
    ({}, ["data.folds=2", "data.fold_seed=2", "data.folds_csv=f.csv"], "has no effect with data.f"),
    ({}, ["data.splitter=kfold"], "data.splitter=kfold: has no effect with data.folds=site"),
    ({}, ["data.site_column=null"], "needs data.site_column"),
    ({}, ["+data.site_folds=true", "data.folds=3"], "set data.folds=site alone"),
    ({}, ["fold=3"], "fold=3: must be all or 0 to 2"),
    ({"SITE": "A"}, [], "needs labelled patients of two sites or more"),
    ({"LABEL": "1"}, [], "without A, only one class is left to train on"),
    ({"DOB": "1950-01-01", "GENDER": "F"}, [], "are probably one person, at A and B and C"),
])  # fmt: skip
def test_sites_that_cannot_be_left_out_are_refused(smears, tmp_path, edit, words, says):
    """data.folds=site with repeats, without sites, with one, with one class, or a person at two
    → one line before anything is trained, exit code 2"""
    (tmp_path / "own").mkdir()
    shutil.copytree(smears / "images", tmp_path / "own" / "images", copy_function=os.link)
    table(smears).assign(**edit).to_csv(tmp_path / "own" / "clinical.csv", index=False)
    with pytest.raises(InputError, match=says):
        configuration(tmp_path / "own", tmp_path / "cache", *OWN, *CLINICAL, *SITES, *words)
