"""A finished run folder, one of whose files is changed, cut or swapped."""

import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lymphoml.cli.main import main

TRIALS, QUICK = 300, 8
ADDED = ("triage.json", "ledger.jsonl")  # a run without them is one, too
COMMANDS = {
    "report": ["run=RUN", "out=page.html", "thumbnails=false"],
    "predict": ["run=RUN", "out=new", "data.root=COHORT", "data.cache=CACHE"],
    "triage": ["run=RUN", "sensitivity=0.5"],
    "compare": ["runs=[RUN,OTHER]", "resamples=100", "out=compared"],
    "ensemble": ["runs=[RUN,OTHER]", "out=both"],
}


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


def outcome(place: Path, command: str, cohort: Path, capsys) -> tuple[object, str]:
    """Return what a command writes and its code; its refusal must be lines of error."""
    words = [word.replace("RUN", "run").replace("OTHER", "other").replace("COHORT", str(cohort))
             .replace("CACHE", "cache") for word in COMMANDS[command]]  # fmt: skip
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    capsys.readouterr()
    code: object = 0
    try:
        main([command, *words])
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    if code == 2:
        assert all(line.startswith("error: ") for line in err.splitlines()), err
        assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        return 2, err
    assert code in (0, None), (code, err)
    tables = [
        each for each in sorted(place.rglob("*")) if each.suffix in (".csv", ".html", ".json")
    ]
    numbers = {str(each.relative_to(place)): each.read_bytes() for each in tables
               if each.parts[len(place.parts)] not in ("run", "other")}  # fmt: skip
    if command == "triage":
        numbers["rule"] = (place / "run" / "triage.json").read_bytes()
    return numbers, out


def says_unreadable(found: dict[str, bytes]) -> bool:
    return any(b"unreadable" in content for content in found.values())


@pytest.fixture(scope="module")
def right(two_runs, tmp_path_factory):
    """What each command makes of the unchanged run, by its name; filled when first needed."""
    return {}


@pytest.mark.parametrize(
    "trial",
    [pytest.param(each, marks=() if each < QUICK else pytest.mark.slow) for each in range(TRIALS)],
)
def test_a_changed_run_is_refused_or_gives_the_same_numbers(
    trial, two_runs, right, cohort, tmp_path, monkeypatch, capsys
):
    """any file of a run folder is cut, removed, changed in a value or a byte, or replaced by that
    of another run or fold → each command gives the numbers of the run that was trained, or refuses
    it in lines that name what is wrong, exit code 2, nothing written; a changed line of the ledger
    of uses is counted as unreadable"""
    draw = random.Random(trial)
    command = draw.choice([*COMMANDS])
    for name, place in (("right", tmp_path / "right"), ("changed", tmp_path / "changed")):
        if name == "right" and command in right:
            continue
        shutil.copytree(two_runs, place)
        monkeypatch.chdir(place)
        what = change(draw, place / "run") if name == "changed" else None
        found, said = outcome(place, command, cohort, capsys)
        if name == "right":
            assert found != 2, said
            right[command] = found
        elif found != 2 and not (what[0] == Path("ledger.jsonl") and says_unreadable(found)):
            assert found == right[command], (what, said)
