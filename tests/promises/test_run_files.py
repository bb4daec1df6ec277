"""A finished run folder, one of whose files is changed, cut or swapped."""

import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lymphoml.cli.main import main
from tests.promises.jobs import few, files
from tests.promises.test_fuzz_overrides import words_of

TRIALS, QUICK = 60, 8
ADDED = ("triage.json", "ledger.jsonl")  # a run without them is one, too
COMMANDS = ["report", "predict", "triage", "compare", "ensemble"]


def of_json(draw: random.Random, path: Path) -> str:
    """Change or remove one value."""
    content = (json.loads if path.suffix == ".json" else yaml.safe_load)(path.read_text())
    places, todo = [], [content]
    for each in todo:
        for key, value in [*(each.items() if isinstance(each, dict) else enumerate(each))]:
            places.append((each, key))
            todo += [value] if isinstance(value, dict | list) else []
    inside, key = draw.choice(places)
    old = inside[key]
    if draw.random() < 0.2:
        del inside[key]
        new = "removed"
    else:
        numbers = [old + 1, old * 10, -1] if type(old) in (int, float) else []
        inside[key] = new = draw.choice([*numbers, "x", None, [], {}, not old])
    path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content))
    return f"{key}: {old!r} -> {new!r}"


def of_table(draw: random.Random, path: Path) -> str:
    """Change a cell, remove or double a row, or exchange two cells."""
    table = pd.read_csv(path, dtype=str, na_filter=False)
    row, other = draw.randrange(len(table)), draw.randrange(len(table))
    column = draw.randrange(table.shape[1])
    how = draw.choice(["cell", "cut", "double", "exchange"])
    if how == "cell":
        table.iat[row, column] = draw.choice(["0", "1", "0.5", "", "nan", "-3", "=1+1", "P1"])
    elif how == "cut":
        table = table.head(row)
    elif how == "double":
        table = pd.concat([table, table.iloc[[row]]])
    else:
        cells = table.iat[other, column], table.iat[row, column]
        table.iat[row, column], table.iat[other, column] = cells
    table.to_csv(path, index=False)
    return f"{how} in row {row}, column {column}"


def change(draw: random.Random, run: Path) -> tuple[Path, str]:
    """Change one file of the run; return it and how."""
    paths = sorted(each for each in run.rglob("*") if each.is_file())
    path = draw.choice([each for each in paths if not each.name.startswith(".")])
    name, content = path.relative_to(run), path.read_bytes()
    how = draw.choice(["value", "value", "cut", "byte", "removed", "swapped", "of another fold"])
    other = run.parent / "other" / name
    if how == "value" and path.suffix in (".json", ".yaml"):
        how = of_json(draw, path)
    elif how == "value" and path.suffix == ".csv":
        how = of_table(draw, path)
    elif how == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    elif how == "removed" and path.name not in ADDED:
        path.unlink()
    elif how == "swapped" and other.exists():
        shutil.copy(other, path)
    elif how == "of another fold" and path.parent.name == "fold-0":
        shutil.copy(run / "fold-1" / path.name, path)
    else:
        place = draw.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        how = f"byte {place}"
    return name, how


def written(command: str, cohort: Path, capsys) -> dict[str, bytes] | None:
    """Return what a command writes in the working folder; None if it refuses in lines of error."""
    before = files(Path())
    code = 0
    capsys.readouterr()
    try:
        main([command, *words_of(command, cohort)])
    except SystemExit as left:
        code = left.code
    err = capsys.readouterr().err
    if code:
        assert code == 2, err
        assert all(line.startswith("error: ") for line in err.splitlines()), err
        assert files(Path()) == before
        return None
    tables = {name: each for name, each in files(Path()).items()
              if name.endswith((".csv", ".html", ".json"))}  # fmt: skip
    rule = "run/triage.json" if command == "triage" else ""
    return {name: each for name, each in tables.items()
            if name == rule or not name.startswith(("run/", "other/"))}  # fmt: skip


@pytest.fixture(scope="module")
def right():
    """What each command makes of the unchanged run, by its name; filled when first needed."""
    return {}


@pytest.mark.parametrize("trial", few(range(TRIALS), *range(QUICK)))
def test_a_changed_run_is_refused_or_gives_the_same_numbers(
    trial, two_runs, right, cohort, tmp_path, monkeypatch, capsys
):
    """any file of a run folder is cut, removed, changed in a value or a byte, or replaced by that
    of another run or fold → each command gives the numbers of the run that was trained, or refuses
    it in lines that name what is wrong, exit code 2, nothing written; a changed line of the ledger
    of uses is counted as unreadable"""
    draw = random.Random(trial)
    command = draw.choice(COMMANDS)
    if command not in right:
        monkeypatch.chdir(shutil.copytree(two_runs, tmp_path / "right"))
        right[command] = written(command, cohort, capsys)
        assert right[command]
    monkeypatch.chdir(shutil.copytree(two_runs, tmp_path / "changed"))
    name, how = change(draw, Path("run"))
    found = written(command, cohort, capsys)
    counted = any(b"unreadable" in each for each in (found or {}).values())
    if not (counted and name == Path("ledger.jsonl")):
        assert found in (None, right[command]), f"{name}: {how}"
