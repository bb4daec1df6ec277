"""Later cohorts: held against what each fold was trained on"""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from lymphoml.audit.run import audit
from lymphoml.cli.main import main
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, TABLE, configuration

NEW = Path("testset", "testset_data.csv")


@pytest.fixture(scope="module")
def clinical(cohort, tmp_path_factory):
    """A run on age, count and sex, of which no training patient is a woman."""
    folder = tmp_path_factory.mktemp("later")
    root = Path(shutil.copytree(cohort, folder / "cohort"))
    table = pd.read_csv(root / TABLE, dtype=str)
    table.assign(GENDER="M").to_csv(root / TABLE, index=False)
    words = (*CLINICAL, f"data.root={root}", "data.clinical=[age,lymphocyte_count,sex]")
    config = configuration(root, folder / "cache", *words)
    return config, folder / "run"


def test_a_constant_column_is_named(clinical, capsys):
    """a clinical column or category that never varies among a fold's training patients → a line in
    training and in the audit; it gets no weight in that fold, so no new value of it can decide"""
    config, run = clinical
    cross_validate(config, run)
    printed = capsys.readouterr().out
    assert "sex=M is the same for all training patients of folds 0, 1" in printed
    found = [each["what"] for each in audit(config.data)["findings"]]
    assert any(what.startswith("sex is the same for every labelled patient") for what in found)
    root = Path(config.data.root)
    tables = []
    for sex in "MF":
        table = pd.read_csv(root / NEW, dtype=str)
        table.assign(GENDER=sex).to_csv(root / NEW, index=False)
        main(["predict", f"run={run}", f"data.root={root}", f"out={run.parent / sex}"])
        tables.append(pd.read_csv(run.parent / sex / "predictions.csv")["probability"])
    assert tables[0].equals(tables[1])
