"""What a user types, in processes of their own."""

import re

import pandas as pd
import pytest

from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import ENCODER, ROOT, TINY, configuration, one_line, python
from tests.runs.test_cross_validation import CLINICAL

QUICK = ["data=synthetic", "model/fusion=clinical", "trainer.max_epochs=1", "trainer.num_threads=1",
         "logger=none"]  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=30, test_patients=3, images=(1, 2), size=16, seed=0)
    return folder


def train(*words, cwd):
    return python(ROOT / "train.py", *words, cwd=cwd, limit=500)


@pytest.mark.slow
def test_the_papers_ablation_side_by_side_and_its_figure(cohort, tmp_path):
    sweep = ["-cd", str(ROOT / "sweeps"), "-cn", "ablation"]
    quick = [*QUICK, "data.folds=2", f"data.root={cohort}"]
    done = train(*sweep, *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    compared = python("-m", "lymphoml", "compare", "runs=runs/ablation", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    table = pd.read_csv(tmp_path / "runs" / "ablation" / "ablation.csv")
    table = table[table["baseline"].isna()]
    expected = {(o, lr, d) for o in ("SGD", "Adam") for lr in (1e-3, 1e-4) for d in (True, False)}
    found = zip(table["optimiser"], table["lr"], table["decay"].notna(), strict=True)
    assert len(table) == 8
    assert set(found) == expected
    assert (tmp_path / "runs" / "ablation" / "ablation.png").stat().st_size > 10_000
    assert (tmp_path / "runs" / "ablation" / "ablation_folds.csv").exists()


@pytest.mark.slow
def test_folds_side_by_side_are_one_run(cohort, tmp_path):
    sweep = ["-cd", str(ROOT / "sweeps"), "-cn", "folds"]
    done = train(*sweep, *QUICK, f"data.root={cohort}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (path for path in (tmp_path / "runs" / "cv").iterdir() if path.is_dir())
    assert (run / "metrics.json").exists()
    alone = train(*QUICK, f"data.root={cohort}", "hydra.run.dir=runs/alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    for name in ("predictions.csv", "metrics.json"):
        assert (run / name).read_bytes() == (tmp_path / "runs" / "alone" / name).read_bytes()


@pytest.mark.slow
def test_overrides_of_pretraining_are_for_those_jobs_of_a_sweep_that_pretrain(cohort, tmp_path):
    words = ["fold=0", "data.folds=2", "pretrain.epochs=20", *QUICK, f"data.root={cohort}"]
    assert "this run pretrains nothing" in train(*words, cwd=tmp_path).stderr
    swept = train("-m", *words, cwd=tmp_path)
    assert swept.returncode == 0, swept.stderr
    assert len(list(tmp_path.glob("runs/cv/*/fold-0/done.json"))) == 1


def test_another_configuration_is_refused_before_torch_is_imported(cohort, tmp_path):
    words = [*TINY, *ENCODER, *CLINICAL, "fold=0", f"data.root={cohort}", "data.cache=.cache"]
    cross_validate(configuration(cohort, ".cache", *CLINICAL, "fold=0"), tmp_path / "run")
    words.append("hydra.run.dir=run")
    done = python("-X", "importtime", ROOT / "train.py", *words, "lr=1e-2", cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
    assert done.returncode == 2
    assert any("lr was 0.0001 and is 0.01" in line for line in lines), lines
    assert not re.search(r"\| +(torch|pytorch_lightning)\n", done.stderr)


def test_a_wrong_option_in_a_sweep_is_one_line_and_leaves_no_file(tmp_path):
    done = train("-m", "optim=sgd,typo", "logger=none", cwd=tmp_path)
    assert "optim/typo" in one_line(done.stderr)
    assert done.returncode == 2
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
