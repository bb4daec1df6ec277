"""Repeatability: decisions from some of the cells"""

import json
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from lymphoml.cli.main import main
from lymphoml.runs import repeatability
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import edited, files, refused

RESULT = Path("run/repeatability.json")
FEATURES = ["model/encoder=identity", "data/features=morphology", "data.repeats=2"]


@pytest.fixture
def command(two_runs, cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(two_runs, tmp_path, dirs_exist_ok=True)
    return ["repeatability", "run=run", f"data.root={cohort}", "data.cache=cache"]


@pytest.mark.parametrize(
    "words", [["data.eval_tta=8", "data.shuffle=false"], FEATURES], ids=["pixels", "features"]
)
def test_all_cells_give_the_stored_logit(words, configured, cohort, tmp_path):
    """every cell, in any order, by the model that held the patient out, from pixels or features →
    the logit of the out-of-fold prediction to 1e-6"""
    run = tmp_path / "run"
    cross_validate(configured("trainer.max_epochs=1", *words), run)
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
    with patch.object(repeatability, "assess", wraps=repeatability.assess) as assess:
        main(["repeatability", f"run={run}", *places, "draws=2"])
    stored = pd.read_csv(run / "predictions.csv").query("fold < 2").sort_values("patient")
    labels, lengths, whole, logits = assess.call_args.args
    np.testing.assert_array_equal(labels, stored["label"])
    np.testing.assert_allclose(whole, logit(stored["probability"]), rtol=1e-6, atol=1e-6)
    assert np.ptp(logits[lengths > 3], axis=(1, 3)).max() > 0


def test_the_same_seed_gives_the_same_bytes_or_none(command, capsys):
    """repeatability twice with a seed, a disk that is full at its end, a result that was changed →
    the same bytes; the earlier result stays; the report, which has its section, refuses it"""
    main([*command, "seed=1"])
    assert "of decisions flip" in capsys.readouterr().out
    first = files(Path("run"))
    main([*command, "seed=1"])
    with patch("os.replace", side_effect=OSError(28, "No space left")), pytest.raises(SystemExit):
        main(command)
    assert files(Path("run")) == first
    main(command)
    assert RESULT.read_bytes() != first[str(RESULT)]
    for run in ("run", "other"):
        main(["report", f"run={run}", "thumbnails=false"])
        page = Path(run, "report.html").read_text()
        assert ('id="repeatability"' in page) == (run == "run")
    content = json.loads(RESULT.read_text())
    for change in ({"enough": 3}, {"predictions_sha256": "0"}):
        RESULT.write_text(json.dumps(content | change))
        assert "python -m lymphoml repeatability run=run" in refused(capsys, "report", "run=run")


def test_a_run_that_cannot_be_measured_is_refused(command, clinical_run, cohort, capsys):
    """repeatability of a run without images, an ensemble, without a checkpoint, or of a cohort that
    has changed since → refused in a line, nothing written"""
    shutil.copytree(clinical_run, "clinical")
    main(["ensemble", "runs=[run,other]", "out=both"])
    changed = edited(cohort, Path("changed"), LYMPH_COUNT=lambda table: table["LYMPH_COUNT"] + 1)
    before = files(Path())
    for run, word, message in (
        ("clinical", command[2], "uses no images"),
        ("both", command[2], "is an ensemble; give a member: run, other"),
        ("run", f"data.root={changed}", "table or images have changed since"),
    ):
        assert message in refused(capsys, command[0], f"run={run}", word, command[3])
    assert "draws=0: must be 1 to 1000" in refused(capsys, *command, "draws=0")
    assert files(Path()) == before
    os.remove("run/fold-1/last.ckpt")
    assert "last.ckpt is missing" in refused(capsys, *command)
