"""Test set: every use is counted"""

import json
import os
import resource
import signal
import time
from hashlib import sha256

import pytest

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.runs.predict import predict
from lymphoml.runs.prediction_folder import made_from
from lymphoml.runs.test_set_log import LEDGER, UsageCount, count_uses, record
from tests.fake_kaggle import COMPETITION, TOKEN
from tests.promises.jobs import refused
from tests.promises.journey import PATIENTS
from tests.reports.fabricate import list_files, make_small_run

KEYS = {"when", "run", "kind", "sha256", "patients", "seal"}
WRITER = """
import sys
from pathlib import Path
from lymphoml.runs.test_set_log import record
for number in range(int(sys.argv[2])):
    record(Path(sys.argv[1]), "predict", f"{sys.argv[3]}-{number}" * 40, number)
    print(number, flush=True)
"""


def lines(run):
    return [json.loads(line) for line in (run / LEDGER).read_text().splitlines()]


@pytest.fixture
def writer(started, tmp_path):
    return lambda run, count, name: started("-c", WRITER, run, count, name, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the journey takes a minute where nothing else runs
def test_predictions_and_submissions_are_recorded_and_shown(journey):
    """predict.py and submit of a whole run → a line each in ledger.jsonl, with the file's hash, and
    without id, path or user; the report and submit show the counts"""
    run = journey.runs[0]
    predict, attempt, confirmed = found = lines(run)
    assert [line["kind"] for line in found] == ["predict", "attempt", "confirmed"]
    assert predict.keys() == KEYS
    assert attempt.keys() == KEYS | {"competition"}
    assert confirmed["confirmation"] == "Successfully submitted to Spot the Lymphoma"
    for name, line in (("predictions.csv", predict), ("submission.csv", attempt)):
        assert line["sha256"] == sha256((run / "test" / name).read_bytes()).hexdigest()
    assert {line["patients"] for line in found} == {PATIENTS // 5}
    assert {line["run"] for line in found} == {run.name}
    assert journey.submissions == 1
    assert any("of runs in runs/cv: 0 sent, 0 confirmed" in step.stdout
               for step in journey.steps)  # fmt: skip
    for other in journey.runs:
        page = (other / "report.html").read_text()
        assert '<th scope="row">predictions</th><td>1</td>' in page


def test_writers_at_once_do_not_mix_their_lines(tmp_path, writer):
    """four processes that record at once → no line is lost, mixed or torn"""
    writers = [writer(tmp_path, 50, f"w{number}") for number in range(4)]
    for each in writers:
        each.communicate()
    found = lines(tmp_path)
    assert len(found) == len({line["sha256"] for line in found}) == 200
    assert count_uses([tmp_path]) == UsageCount(200, 200, 0, 0, torn=0)


def test_a_kill_loses_no_line(tmp_path, writer):
    """SIGKILL while a process records → what was reported as recorded is there, and every line
    whole"""
    for number in range(3):
        run = tmp_path / str(number)
        run.mkdir()
        process = writer(run, 10**6, "w")
        assert process.stdout.readline() == "0\n"
        time.sleep(0.005 * number)
        process.send_signal(signal.SIGKILL)
        printed = process.communicate()[0].splitlines()
        assert len(lines(run)) >= len([each for each in printed if each.isdigit()])


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_torn_line_harms_no_other(tmp_path, room):
    """a disk that fills up in the middle of a line → an error; the lines before stay, the next does
    not join the torn one, and that one is counted"""
    for _ in range(2):  # two uses of one file
        record(tmp_path, "predict", "early", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = (tmp_path / LEDGER).stat().st_size + room
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))  # stops a write as a full disk
    try:
        with pytest.raises(OSError, match=LEDGER):
            record(tmp_path, "predict", "late", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    record(tmp_path, "attempt", "next", 1)
    used = UsageCount(uses=2, files=1, attempts=1, confirmed=0, torn=int(room > 0))
    assert count_uses([tmp_path]) == used
    assert os.listdir(tmp_path) == [LEDGER]


def test_a_changed_line_is_unreadable(tmp_path):
    """any byte of a line is changed → that line counts as unreadable, the next as it is"""
    for kind in ("predict", "attempt"):
        record(tmp_path, kind, "file", 1, competition="c")
    path = tmp_path / LEDGER
    content = path.read_bytes()
    for place in range(content.index(b"\n")):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        path.write_bytes(changed)
        assert count_uses([tmp_path]) == UsageCount(0, 0, attempts=1, confirmed=0, torn=1), changed


def test_nothing_is_predicted_unrecorded(run, cohort, tmp_path):
    """a ledger that cannot be written → no prediction is made, no file is written"""
    config = run_config(run, {"root": str(cohort)}, {})
    with pytest.raises(InputError):  # nor a prediction recorded that is not made
        predict(run, {run: config}, tmp_path / "out", "unlabelled", ("ID", "=LABEL"))
    assert not (run / LEDGER).exists()
    (run / LEDGER).mkdir()
    with pytest.raises(IsADirectoryError):
        predict(run, {run: config}, tmp_path / "out", "unlabelled", ("ID", "LABEL"))
    assert not (tmp_path / "out").exists()


def record_source(run):
    digest = sha256((run / "test" / "predictions.csv").read_bytes()).hexdigest()
    source = made_from(run, [run], "0", own=True) | {"predictions_sha256": digest}
    (run / "test" / "predictions.json").write_text(json.dumps(source))


@pytest.fixture
def predicted(tmp_path):
    """A run folder as far as submitting looks at it."""
    run = make_small_run(tmp_path / "runs" / "cv" / "a")
    (run / "test").mkdir()
    (run / "test" / "predictions.csv").write_text("patient,label\nP1,1\nP2,0\n")
    (run / "test" / "submission.csv").write_text("ID,LABEL\nP1,1\nP2,0\n")
    record_source(run)
    return run


def test_a_submission_is_recorded_before_it_is_sent(predicted, kaggle, monkeypatch, capsys):
    """an upload that Kaggle refuses, then one that it accepts → the first is counted as sent, the
    second as sent and confirmed, with its public score; siblings' are shown before"""
    sibling = predicted.parent / "b"
    sibling.mkdir()
    (sibling / "config.yaml").write_text("lr: 2\n")
    record(sibling, "attempt", "other", 2, competition=COMPETITION)
    words = ["submit", f"run={predicted}", "message=m", f"competition={COMPETITION}"]
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    kaggle.refuse_uploads = True
    refused(capsys, *words)
    assert count_uses([predicted]) == UsageCount(0, 0, 1, 0, 0)
    kaggle.refuse_uploads = False
    main(words)
    assert count_uses([predicted]) == UsageCount(0, 0, 2, 1, 0)
    shown = capsys.readouterr().out
    assert "2 sent, 0 confirmed" in shown
    assert shown.endswith("public score: 0.83\n")
    assert count_uses([predicted, sibling]) == UsageCount(0, 0, 3, 1, 0)


def test_no_patient_of_the_run_is_submitted(predicted, capsys):
    """submit after `predict.py patients=all`, with patients that the run was trained on → refused
    in a line, nothing sent, nothing counted"""
    (predicted / "folds.csv").write_text("patient,fold\nP1,0\nP4,1\n")
    list_files(predicted)
    record_source(predicted)
    assert "1 patient" in refused(capsys, "submit", f"run={predicted}", "message=m")
    assert count_uses([predicted]) is None
