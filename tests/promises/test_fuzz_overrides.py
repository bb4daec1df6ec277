"""Random overrides of every command: each acts or is refused in one line, whatever it is."""

import random
import shutil
import time
from dataclasses import fields
from pathlib import Path

import pytest

from lymphoml.cli.config import CONF, compose_config, known_keys
from lymphoml.cli.entry import run_cli
from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.cli.main import COMMANDS, main
from lymphoml.runs.prepare import prepare
from tests.promises.jobs import CLINICAL, ENCODER, TINY, few

TRIALS, QUICK, LIMIT = 100, 10, 5.0  # LIMIT: CPU seconds
RANDOM_VALUES = (
    "0", "-1", "1", "2", "7", "0.5", "1e-3", "1e400", "nan", "inf", "-inf", "99999999999999999999",
    "true", "false", "null", "''", "' '", "x", "all", "[]", "[1]", "[1,2]", "[[[]]]", "{}", "{a:1}",
    "{a:{b:c}}", "${lr}", "${oc.env:HOME}", "${nothing}", "???", "/etc/passwd", "/dev/zero", "~",
    "../..", "a=b", "'a=b'", "*", "glob(*)", "range(3)", "a,b", "choice(1,2)", "'", '"', "[", "{",
    "é", "ü\u0301", "\u202e", "=1+1", "-", "--help", "x" * 5000, "[" * 500, "1" * 400, "\\", "#",
    "sgd", "adam", "none", "synthetic", "table", "resnet18", "mean", "clinical", "cpu", "cuda",
)  # fmt: skip
WORDS = {  # of commands that train nothing
    "report": ["run=run", "out=page.html", "thumbnails=false"],
    "predict": ["run=run", "out=new", "data.root=COHORT", "data.cache=cache"],
    "triage": ["run=run", "sensitivity=0.5"],
    "compare": ["runs=[run,other]", "resamples=100", "out=compared"],
    "ensemble": ["runs=[run,other]", "out=both"],
    "instances": ["run=run", "truth=truth.json"],
    "submit": ["run=run", "message=m"],
    "audit": ["cohort=synthetic", "data.root=COHORT", "out=audit.json"],
    "features": ["cohort=synthetic", "data.root=COHORT", "data.cache=cache", "out=f.npz"],
    "synthesize": ["out=drawn", "patients=4", "test_patients=1", "images=[1,2]", "size=16"],
}


def words_of(command: str, cohort: Path) -> list[str]:
    return [word.replace("COHORT", str(cohort)) for word in WORDS[command]]


def draw_override(draw: random.Random, keys: list[str]) -> str:
    """A key as it is, with a letter less, deeper or higher than it is; a random value."""
    key = draw.choice(keys)
    how = draw.random()
    if how < 0.15:
        place = draw.randrange(len(key))
        key = key[:place] + key[place + 1 :]
    elif how < 0.25:
        key = f"{key}.{draw.choice(['x', 'lr', '_target_', '0'])}"
    elif how < 0.35:
        key = key.rpartition(".")[0] or key
    prefix = draw.choice(["", "", "", "", "+", "++", "~"])
    if prefix == "~" and draw.random() < 0.5:
        return f"~{key}"
    return f"{prefix}{key}={draw.choice(RANDOM_VALUES)}"


def with_overrides(words: list[str], given: list[str]) -> list[str]:
    """The words but for those of the same keys, then the overrides."""
    keys = [word.lstrip("+~").partition("=")[0] for word in given]
    return [word for word in words if word.partition("=")[0] not in keys] + given


def train(words: list[str], folder: Path) -> None:
    """Do all that train.py does before it trains."""
    check_command_line(words)
    prepare(compose_config(*words), folder, overrides=words)


@pytest.mark.parametrize("trial", few(range(TRIALS), *range(QUICK)))
def test_random_overrides_act_or_are_refused(
    trial, two_runs, cohort, tmp_path, monkeypatch, capsys
):
    """one to three random overrides of any command: known and unknown keys, nested, wrongly typed,
    with +, ++ and ~ → the command does it, or refuses it in lines that say why, exit code 2,
    within seconds and without a traceback"""
    draw = random.Random(trial)
    shutil.copytree(two_runs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    if draw.random() < 0.6:
        command = "train"
        folders = sorted(path for path in CONF.rglob("*") if path.is_dir())
        keys = [*known_keys(), *(path.relative_to(CONF).as_posix() for path in folders)]
        model = draw.choice([ENCODER, CLINICAL])
        base = [*TINY, *model, f"data.root={cohort}", "data.cache=cache"]
    else:
        command = draw.choice([*WORDS])
        keys = [each.name for each in fields(COMMANDS[command])]
        if "data" in keys:
            keys += [key for key in known_keys() if key.startswith("data.")] * 2
        base = words_of(command, cohort)
    words = with_overrides(base, [draw_override(draw, keys) for _ in range(draw.randint(1, 3))])
    started, code = time.process_time(), 0
    try:
        if command == "train":
            run_cli(lambda: train(words, tmp_path / "new"))
        else:
            main([command, *words])
    except SystemExit as ended:
        code = ended.code or 0
    seconds = time.process_time() - started
    lines = capsys.readouterr().err.splitlines()
    assert code in (0, 2) or (command == "audit" and code == 1), (words, code, lines)
    if code == 2 and command != "audit":
        assert lines, words
        assert all(line.startswith("error: ") and line.isprintable() for line in lines), lines
    assert seconds < LIMIT, (words, seconds)
