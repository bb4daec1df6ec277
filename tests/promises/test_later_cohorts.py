"""Later cohorts: held against what each fold was trained on"""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lymphoml.audit.run import audit
from lymphoml.cli.main import main
from lymphoml.reports.run_summary import print_run
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.run_folder import read_out_of_fold
from lymphoml.runs.triage_rule import read_rule
from tests.promises.jobs import CLINICAL, TABLE, configuration, edited, errors

NEW = Path("testset", "testset_data.csv")
BIRTHS = [f"{day}-03-1955" for day in range(10, 26)]  # of none of the run's patients


def later_cohort(root, out, **changes):
    """The patients of `root`'s trainset, under new ids and with other clinical values."""
    table = pd.read_csv(Path(root) / TABLE, dtype=str)
    table = table.assign(LABEL="-1", ID="N" + table["ID"], **changes)
    shutil.copytree(root, out, ignore=shutil.ignore_patterns("testset"))
    shutil.copytree(Path(root) / "trainset", out / "testset")
    (out / "testset" / TABLE.name).unlink()
    for folder in (each for each in (out / "testset").iterdir() if each.is_dir()):
        folder.rename(folder.with_name(f"N{folder.name}"))
    table.to_csv(out / NEW, index=False)
    return out


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """A run on age, count and sex, of which no training patient is a woman; with a rule."""
    folder = tmp_path_factory.mktemp("later")
    root = edited(cohort, folder / "cohort", GENDER="M")
    words = (*CLINICAL, "data.clinical=[age,lymphocyte_count,sex]")
    config = configuration(root, folder / "cache", *words)
    cross_validate(config, folder / "run")
    main(["triage", f"run={folder / 'run'}", "sensitivity=0.4"])
    return folder / "run", root, config


def predicted(trained, root, out, *words):
    main(["predict", f"run={trained[0]}", f"data.root={root}", f"out={out}", *words])
    return pd.read_csv(out / "predictions.csv", na_filter=False).set_index("patient")


def test_a_constant_column_is_named(trained, tmp_path, capsys):
    """a clinical column or category that never varies among a fold's training patients → a line in
    training and in the audit; it gets no weight in that fold, and a new value of it is named"""
    _, root, config = trained
    cross_validate(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "sex=M is the same for all training patients of folds 0, 1" in printed
    found = [each["what"] for each in audit(config.data)["findings"]]
    assert any(what.startswith("sex is the same for every labelled patient") for what in found)
    men, women = (later_cohort(root, tmp_path / sex, GENDER=sex, DOB=BIRTHS) for sex in "MF")
    same = predicted(trained, men, tmp_path / "outM")
    new = predicted(trained, women, tmp_path / "outF")
    assert new["probability"].equals(same["probability"])
    assert not same["outside_range"].str.contains("sex").any()
    assert new["outside_range"].str.contains("sex=F is not in training").all()
    assert "sex: 16 of 16 patients: sex=F is not in training" in capsys.readouterr().out


@pytest.mark.parametrize("factor", [1000, 0.001])
def test_another_unit_is_named(trained, tmp_path, capsys, factor):
    """lymphocyte counts per microlitre instead of 10^9/L, or the reverse → a line with the range, a
    line with the power of ten; nobody is ruled out, with the reason in a column"""
    counts = pd.read_csv(trained[1] / TABLE)["LYMPH_COUNT"] * factor
    later = later_cohort(trained[1], tmp_path / "later", LYMPH_COUNT=counts)
    table = predicted(trained, later, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "lymphocyte_count: 16 of 16 patients outside the training range" in printed
    verb = "divide" if factor > 1 else "multiply"
    assert f"looks like another unit (as /uL for 10^9/L): {verb} by 1000" in printed
    assert (table["triage"] == "test").all()
    side = "above" if factor > 1 else "below"
    assert table["outside_range"].str.contains(f"lymphocyte_count {side} ").all()


def test_unlike_patients_are_refused_where_that_is_asked_for(trained, tmp_path, capsys):
    """a wrong data.reference_date, 40 years too late, with strict=true → a line with the median of
    the ages, exit code 2, nothing written"""
    words = ["data.reference_date=2060-01-01", "strict=true"]
    later = later_cohort(trained[1], tmp_path / "later")
    lines = errors(capsys, lambda: predicted(trained, later, tmp_path / "out", *words))
    assert any("age: median " in line for line in lines)
    assert not (tmp_path / "out").exists()


def test_ages_in_years_stand_for_birth_dates(trained, tmp_path):
    """a later cohort has ages in years instead of birth dates → the same probabilities"""
    ages = (pd.Timestamp("2020-01-01") - pd.to_datetime(BIRTHS, format="%d-%m-%Y")).days / 365.25
    later = later_cohort(trained[1], tmp_path / "later", DOB=BIRTHS, AGE=ages)
    table = pd.read_csv(later / TABLE, dtype=str)
    table.assign(AGE="50").to_csv(later / TABLE, index=False)
    words = ["data.columns.age.kind=numeric", "data.columns.age.column=AGE"]
    by_age = predicted(trained, later, tmp_path / "age", *words)
    pd.testing.assert_frame_equal(by_age, predicted(trained, later, tmp_path / "birth"))


def test_the_rule_and_its_rates_agree(trained, tmp_path, capsys):
    """held-out patients outside the range of their fold's training patients → tested, in the rates
    of cross-validation and triage as in prediction"""
    run, root, _ = trained
    outside = read_out_of_fold(run).set_index("patient")["outside_range"]
    print_run(run)
    count = (outside != "").sum()
    assert f"{count} patients outside the training range of a fold" in capsys.readouterr().out
    table = predicted(trained, root, tmp_path / "all", "patients=all").loc[outside.index]
    assert ((table["outside_range"] != "") == (outside != "")).all()
    assert (table.loc[outside != "", "triage"] == "test").all()
    labels = read_out_of_fold(run).set_index("patient")["label"]
    counts = labels[table["triage"] == "rule_out"].value_counts()
    outcome = read_rule(run)["outcomes"]["average"]
    assert [counts.get(1, 0), counts.get(0, 0)] == [outcome["missed"], outcome["ruled_out"]]


def test_the_same_table_with_other_images_is_another_cohort(two_runs, cohort, tmp_path):
    """the run's own test patients, one of their images made again → a folder of their own, what was
    predicted stays"""
    shutil.copytree(two_runs, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "run/test/predictions.json").read_bytes()
    later = shutil.copytree(cohort, tmp_path / "later")
    Image.new("RGB", (32, 32)).save(next((later / "testset").rglob("*.jpg")))
    main(["predict", f"run={tmp_path}/run", f"data.root={later}", f"data.cache={tmp_path}/cache"])
    assert (tmp_path / "run/test/predictions.json").read_bytes() == before
    assert len([*(tmp_path / "run").glob("test-*/predictions.csv")]) == 1


def test_other_images_are_named(cohort, tmp_path, capsys):
    """images twice as large, dark and blurred, of a model that uses images → a line for each of
    brightness, size and focus; the patients are not ruled out"""
    words = ("trainer.max_epochs=1", "data.crop=32", "data.resize=32")
    cross_validate(configuration(cohort, tmp_path / "cache", *words), tmp_path / "run")
    later = later_cohort(cohort, tmp_path / "later")
    for path in sorted((later / "testset").glob("*/*.jpg")):
        with Image.open(path) as opened:
            dark = opened.point(lambda level: level // 2)
        dark.resize((64, 64)).save(path)
    places = [f"data.root={later}", f"data.cache={tmp_path / 'cache'}"]
    capsys.readouterr()
    main(["predict", f"run={tmp_path / 'run'}", f"out={tmp_path / 'out'}", *places])
    printed = capsys.readouterr().out
    for name in ("brightness", "size", "focus"):
        assert f"unlike the training patients: image {name}: 16 of 16 patients" in printed
        assert f"unlike the training patients: image {name}: median" in printed
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["outside_range"].str.contains("image brightness below").all()
