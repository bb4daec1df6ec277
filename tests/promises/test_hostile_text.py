"""Text made by an enemy: formulas, HTML, escape sequences."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from lymphoml.cli.config import data_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.core.files import write_csv
from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.hostile import refused
from tests.promises.mutations import TABLE
from tests.reports.fabricate import config, make_full_run, make_run

CHROMIUM = Path("/usr/bin/chromium")
HTML = ["<img src=x onerror=\"document.title='fired'\">",
        "</script><script>document.title='fired'</script>",
        "'\"><svg onload=\"document.title='fired'\">", "<iframe srcdoc=\"<b>\"></iframe>",
        "</title></style></textarea><script>document.title='fired'</script>",
        "{{ 7 * 7 }}{% raw %}", "javascript:document.title='fired'",
        "<a href=\"javascript:document.title='fired'\">x</a>",
        "<link rel=stylesheet href=http://127.0.0.1:9/x><base href=http://127.0.0.1:9/>",
        ]  # fmt: skip
FORMULAS = ["=HYPERLINK(\"http://x\")", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1+1",
            "\r=1+1", "\n=1", "=1;2"]  # fmt: skip
ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "a\x08b", "\x9b31m", "\u202e", "\u2028", "\x00"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "cohort"
    synthesize(folder, patients=15, test_patients=1, images=(1, 1), size=16, seed=0)
    return folder


@pytest.mark.promise(
    "a formula where a table that we write would hold it", "a line; no file is written"
)
@pytest.mark.parametrize("text", FORMULAS, ids=repr)
def test_no_table_holds_a_formula(text, tmp_path, record_property):
    fair = pd.DataFrame({"patient": ["P1"], "probability": [-0.5]})
    write_csv(tmp_path / "fair.csv", fair)
    assert (tmp_path / "fair.csv").read_text() == "patient,probability\nP1,-0.5\n"
    tables = (fair.assign(patient=[text]), fair.rename(columns={"patient": text}),
              fair.assign(patient=pd.Series([text], dtype="str")),
              fair.assign(patient=pd.Series([text], dtype="category")))  # fmt: skip
    for table in tables:
        with pytest.raises(InputError, match="formula") as caught:
            write_csv(tmp_path / "bad.csv", table)
        assert caught.value.problems[0].isprintable()
    assert not (tmp_path / "bad.csv").exists()
    record_property("tried", len(tables))


@pytest.mark.promise(
    "a formula, HTML or escape sequence as column, category or name of a cohort's settings",
    "a line",
)
@pytest.mark.parametrize("text", [*FORMULAS, *HTML, *ESCAPES], ids=repr)
def test_names_of_settings_are_words(text, record_property):
    age = {"kind": "numeric", "column": "AGE"}
    sex = {"kind": "categorical", "column": "SEX", "values": {"F": text}}
    attacks: list[dict[str, Any]] = [{"columns": {text: age}, "clinical": []}, {"name": text}]
    if text in FORMULAS or text in ESCAPES:
        attacks.append({"columns": {"sex": sex}, "clinical": []})
    for attack in attacks:
        with pytest.raises(InputError) as caught:
            data_config("table", {"root": "x", "hard_stratum": None} | attack)
        assert all(problem.isprintable() for problem in caught.value.problems)
    record_property("tried", len(attacks))


@pytest.mark.promise(
    "a formula in the ids of a run folder's tables, or in its settings",
    "a line, or the text as it is in the page; no table has it",
)
@pytest.mark.parametrize("text", [FORMULAS[0], FORMULAS[3]], ids=repr)
def test_no_formula_comes_out_of_a_run_folder(text, tmp_path, capsys, record_property):
    for number, name in enumerate(("predictions.csv", "folds.csv", "strata.csv", "baselines.csv")):
        run = make_full_run(tmp_path / f"run{number}")
        table = pd.read_csv(run / name, dtype=str)
        table.loc[0, "patient"] = text
        table.to_csv(run / name, index=False)
        command = "triage" if name == "baselines.csv" else "report"
        refused(capsys, command, f"run={run}")
    for number, target in enumerate((text, f"x.{text}")):
        folder = tmp_path / f"sweep{number}"
        for lr in (1e-3, 1e-4):
            settings = config(**{"lr": lr, "optim.lr": lr, "optim._target_": target})
            make_run(folder / f"lr{lr}", settings, n=20, epochs=1)
        try:
            main(["compare", f"runs={folder}", "resamples=100"])
        except SystemExit as left:
            assert left.code == 2  # noqa: PT017
        for path in folder.glob("*.csv"):
            cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
            assert not [cell for cell in cells if cell == text]
    record_property("tried", 6)


@pytest.mark.promise(
    "an escape sequence in ids, cells, file names, settings or words of a command",
    "written out, as \\x1b; the terminal gets none",
)
@pytest.mark.parametrize("text", [ESCAPES[0], "".join(ESCAPES[1:-1])], ids=repr)
def test_the_terminal_is_not_steered(text, made, tmp_path, capsys, monkeypatch, record_property):
    monkeypatch.chdir(tmp_path)
    cohort = shutil.copytree(made, "cohort")
    table = cohort / TABLE
    lines = table.read_text().splitlines()
    run = make_run(tmp_path / "run", n=20, epochs=1)
    (run / "config.yaml").write_text(yaml.safe_dump(config(name=text, tags=[text])))
    (tmp_path / "audit.json").write_text(json.dumps({"findings": [{"what": text}]}))
    tried = 0
    for column in range(5):
        cells = lines[1].split(",")
        cells[column] = f'"{cells[column]}{text}"'
        table.write_bytes("\n".join([lines[0], ",".join(cells), *lines[2:], ""]).encode())
        with pytest.raises(SystemExit) as left:
            main(["audit", "cohort=synthetic", "data.root=cohort", f"out=a{column}.json"])
        assert left.value.code in (0, 1, 2)
        tried += 1
    words = [["report", "run=run"], ["predict", "run=run"], ["triage", "run=run"],
             ["report", f"run={text}"], ["compare", f"runs=[x{text}]"], [text], ["report", text],
             ["report", f"{text}=1"], ["audit", f"cohort={text}"],
             ["audit", "cohort=synthetic", f"data.{text}=1"]]  # fmt: skip
    for each in words:
        with pytest.raises(SystemExit) as left:
            main(each)
        assert left.value.code == 2
        tried += 1
    said = capsys.readouterr()
    for line in (said.out + said.err).split("\n"):
        assert line.isprintable(), repr(line)
    record_property("tried", tried)


def poison(value: Any, text: str) -> Any:
    """`value` with `text` at the end of every text that is no key of ours."""
    if isinstance(value, dict):
        return {key: poison(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [poison(each, text) for each in value]
    return value + text if isinstance(value, str) else value


def hostile_run(path: Path, text: str) -> Path:
    stratum = {"column": text, "max": 8}
    data = {"name": text, "root": text, "image_pattern": text, "hard_stratum": stratum}
    run = make_full_run(path, name=text, tags=[text], **{f"data.{key}": data[key] for key in data})
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["optim"][text] = settings[text] = text
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    for name in ("environment.json", "metrics.json"):
        content = json.loads((run / name).read_text())
        if name == "metrics.json":
            for each in content["subgroups"]:
                each |= {"by": text, "group": text}
            content["baselines"] |= {text: content["baselines"]["logistic_regression"]}
        else:
            content = poison(content, text) | {text: text}
            content["versions"] |= {text: text}
        (run / name).write_text(json.dumps(content))
    audit = {"findings": [{"severity": text, "topic": text, "what": text, "action": text}]}
    (run / "audit.json").write_text(json.dumps(audit))
    return run


@pytest.mark.promise(
    "HTML and script in every text of a run folder and an audit file",
    "shown as text in the page: no script runs, nothing is fetched, in Chromium",
)
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_no_html_of_theirs_is_html_of_ours(tmp_path, record_property):
    playwright = pytest.importorskip("playwright.sync_api")
    pages = []
    for number, text in enumerate(HTML):
        run = hostile_run(tmp_path / f"run{number}", text)
        main(["report", f"run={run}", f"audit={run}/audit.json", "ids=true"])
        pages.append(run / "report.html")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        naive = browser.new_page()
        naive.set_content(f"<title>fair</title>{HTML[0]}")
        naive.wait_for_function("document.title === 'fired'")  # the payload works
        for path, text in zip(pages, HTML, strict=True):
            page = browser.new_page()
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("dialog", lambda dialog: pytest.fail(dialog.message))
            page.goto(path.as_uri())
            page.wait_for_timeout(200)
            assert page.title() != "fired"
            assert page.locator("iframe, base, a[href^=javascript]").count() == 0
            assert page.locator("img[src=x], svg[onload], link").count() == 0
            assert text[:12] in page.locator("body").inner_text()
            assert asked == [path.as_uri()]
            page.close()
        browser.close()
    record_property("tried", len(HTML))
