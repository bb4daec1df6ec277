"""Test set: every use is counted"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from hashlib import sha256

import pytest

from lymphoml.cli.main import _run
from lymphoml.core.errors import InputError
from lymphoml.runs.test_set_log import LEDGER, UsageCount, count_uses, record
from tests.fake_kaggle import COMPETITION, TOKEN, fake_kaggle
from tests.promises.conftest import PATIENTS
from tests.promises.journey import ROOT

pytestmark = pytest.mark.timeout(1200)  # the journey takes a minute where nothing else runs
KEYS = {"when", "run", "kind", "sha256", "patients"}
WRITER = """
import sys
from pathlib import Path
from lymphoml.ledger import record
for number in range(int(sys.argv[2])):
    record(Path(sys.argv[1]), "predict", f"{sys.argv[3]}-{number}" * 40, number)
    print(number, flush=True)
"""


def lines(run):
    return [json.loads(line) for line in (run / LEDGER).read_text().splitlines()]


def writer(run, count, name):
    words = [sys.executable, "-c", WRITER, str(run), str(count), name]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.promise(
    "predict.py and submit of a whole run",
    "a line each in ledger.jsonl, with the file's hash, and without id, path or user; the page and "
    "submit tell the counts",
)
def test_predictions_and_submissions_are_recorded_and_told(journey):
    run = journey.runs[0]
    predict, attempt, confirmed = told = lines(run)
    assert [line["kind"] for line in told] == ["predict", "attempt", "confirmed"]
    assert predict.keys() == KEYS
    assert attempt.keys() == KEYS | {"competition"}
    assert confirmed["confirmation"] == "Successfully submitted to Spot the Lymphoma"
    for name, line in (("predictions.csv", predict), ("submission.csv", attempt)):
        assert line["sha256"] == sha256((run / "test" / name).read_bytes()).hexdigest()
    assert {line["patients"] for line in told} == {PATIENTS // 5}
    assert {line["run"] for line in told} == {run.name}
    assert journey.submissions == 1
    assert any("before this one, of all runs in runs/cv: 0 sent, 0 confirmed" in step.stdout
               for step in journey.steps)  # fmt: skip
    for other in journey.runs:
        page = (other / "report.html").read_text()
        assert '<th scope="row">predictions made</th><td>1</td>' in page


@pytest.mark.promise("eight processes that record at once", "no line is lost, mixed or torn")
def test_writers_at_once_do_not_mix_their_lines(tmp_path, record_property):
    writers = [writer(tmp_path, 50, f"w{number}") for number in range(8)]
    for each in writers:
        each.communicate()
    told = lines(tmp_path)
    assert len(told) == len({line["sha256"] for line in told}) == 400
    assert count_uses([tmp_path]) == UsageCount(
        uses=400, files=400, attempts=0, confirmed=0, torn=0
    )
    record_property("tried", len(told))


@pytest.mark.promise(
    "SIGKILL while a process records", "what was told as recorded is there, and every line whole"
)
def test_a_kill_loses_no_line(tmp_path, record_property):
    for number in range(6):
        run = tmp_path / str(number)
        run.mkdir()
        process = writer(run, 10**6, "w")
        assert process.stdout.readline() == "0\n"
        time.sleep(0.005 * number)
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0].splitlines()
        told = lines(run)
        assert len(told) >= len([each for each in said if each.isdigit()])
    record_property("tried", 6)


def limited(run, size):
    """Record under a limit to a file's size, which stops a write as a full disk does."""
    code = (f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
            "from pathlib import Path; from lymphoml.runs.test_set_log import record\n"
            f"record(Path({str(run)!r}), 'predict', 'late', 1)")  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.promise(
    "a disk that fills up amid a line",
    "told; the lines before stay, the next does not join the torn one, and the torn one is counted",
)
@pytest.mark.parametrize("room", [0, 1, 30, 100])
def test_a_torn_line_harms_no_other(tmp_path, room):
    record(tmp_path, "predict", "early", 1)
    size = (tmp_path / LEDGER).stat().st_size
    done = limited(tmp_path, size + room)
    assert str(tmp_path / LEDGER) in done.stderr.splitlines()[-1]
    record(tmp_path, "attempt", "next", 1)
    assert count_uses([tmp_path]) == UsageCount(1, 1, 1, 0, torn=int(room > 0))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.promise("a ledger that cannot be written", "nobody is predicted, no file is written")
def test_nobody_is_predicted_unrecorded(journey, tmp_path):
    run = journey.runs[1]
    (run / LEDGER).mkdir()
    try:
        with pytest.raises(IsADirectoryError):
            _run(["predict", f"run={run}", f"data.root={journey.cohort}", f"out={tmp_path / 'out'}",
                  f"data.cache={journey.home / 'images'}", "data.num_workers=0"])  # fmt: skip
    finally:
        (run / LEDGER).rmdir()
    assert not (tmp_path / "out").exists()


@pytest.fixture
def predicted(tmp_path):
    """A run folder as far as submitting looks at it."""
    run = tmp_path / "runs" / "cv" / "a"
    (run / "test").mkdir(parents=True)
    (run / "config.yaml").write_text("lr: 1\n")
    (run / "folds.csv").write_text("patient,fold\nP3,0\nP4,1\n")
    (run / "test" / "predictions.csv").write_text("patient,label\nP1,1\nP2,0\n")
    (run / "test" / "submission.csv").write_text("ID,LABEL\nP1,1\nP2,0\n")
    return run


@pytest.mark.promise(
    "an upload that Kaggle refuses, then one that it takes",
    "the first is counted as sent, the second as sent and confirmed; siblings' are told beforehand",
)
def test_a_submission_is_recorded_before_it_is_sent(predicted, tmp_path, monkeypatch, capsys):
    sibling = predicted.parent / "b"
    sibling.mkdir()
    (sibling / "config.yaml").write_text("lr: 2\n")
    record(sibling, "attempt", "other", 2, competition=COMPETITION)
    words = ["submit", f"run={predicted}", "message=m", f"competition={COMPETITION}"]
    with fake_kaggle() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
        server.refuse_uploads = True
        with pytest.raises(InputError, match="not confirmed"):
            _run(words)
        assert count_uses([predicted]) == UsageCount(0, 0, 1, 0, 0)
        assert "1 sent, 0 confirmed" in capsys.readouterr().out
        server.refuse_uploads = False
        _run(words)
    assert count_uses([predicted]) == UsageCount(0, 0, 2, 1, 0)
    assert "2 sent, 0 confirmed" in capsys.readouterr().out
    assert count_uses([predicted, sibling]) == UsageCount(0, 0, 3, 1, 0)


@pytest.mark.promise(
    "submit after `predict.py patients=all`, with patients whom the run learned from",
    "refused in a line, nothing sent, nothing counted",
)
def test_nobody_the_run_learned_from_is_submitted(predicted):
    (predicted / "folds.csv").write_text("patient,fold\nP1,0\nP4,1\n")
    with pytest.raises(InputError, match=r"holds 1 patients whom the run learned from; run pred"):
        _run(["submit", f"run={predicted}", "message=m"])
    assert count_uses([predicted]) is None


def test_the_same_file_twice_is_two_uses_of_one_file(tmp_path):
    for digest in ("a", "a", "b"):
        record(tmp_path, "predict", digest, 3)
    assert count_uses([tmp_path]) == UsageCount(uses=3, files=2, attempts=0, confirmed=0, torn=0)
    assert count_uses([tmp_path / "none"]) is None
    assert os.listdir(tmp_path) == [LEDGER]
