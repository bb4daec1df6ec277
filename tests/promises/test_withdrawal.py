"""A patient withdraws consent"""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import ENCODER, ROOT, configuration


def naming(word, folder):
    files = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    return {each for each, text in files.items()
            if b"\0" not in text and re.search(rf"\b{word}\b".encode(), text)}  # fmt: skip


@pytest.mark.slow
def test_the_recipe_leaves_nothing_of_a_patient(two_runs, cohort, tmp_path):
    """a patient of a run withdraws: the commands of docs/withdrawal.md → they find every file that
    names the patient; afterwards none does, and the others keep their folds"""
    root, run = tmp_path / "cohort", tmp_path / "runs/cv/default"
    shutil.copytree(cohort, root)
    shutil.copytree(two_runs / "run", run)
    folds = pd.read_csv(run / "folds.csv", index_col="patient")["fold"]
    patient = folds.index[0]
    text = (ROOT / "docs/withdrawal.md").read_text().replace("P46", patient)
    find, change = (block.splitlines() for block in re.findall(r"```\n(.*?)\n *```", text, re.S))

    def shell(line):
        words = ["bash", "-c", line]
        return {tmp_path / each for each in
                subprocess.check_output(words, cwd=tmp_path, text=True).splitlines()}  # fmt: skip

    assert [shell(line) for line in find] == [{run / "folds.csv"}, naming(patient, run)]
    shell(f"rm -r cohort/truth.json cohort/trainset/{patient}")
    for line in [rf"sed -i '/\b{patient}\b/d' $(grep -rlwI {patient} cohort)", *change[:-1]]:
        shell(line)
    assert change[-1].split() == ["python", "train.py", "data.folds_csv=runs/folds.csv"]
    assert (tmp_path / "runs/folds.csv").stat().st_mode & 0o777 == 0o600
    words = [*ENCODER, "trainer.max_epochs=1", f"data.folds_csv={tmp_path}/runs/folds.csv"]
    cross_validate(configuration(root, tmp_path / ".cache", *words), run)
    assert naming(patient, tmp_path) == set()
    assert (
        pd.read_csv(run / "folds.csv", index_col="patient")["fold"] == folds.drop(patient)
    ).all()
