"""Hostile text: formulas, HTML, escape sequences"""

import contextlib
import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lymphoml.cli.config import data_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.core.files import write_csv
from tests.promises.jobs import TABLE, refused
from tests.reports.fabricate import config, list_files, make_full_run, make_run

slow = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")
HTML = ["<img src=x onerror=\"document.title='fired'\">",
        "</script><script>document.title='fired'</script>",
        "'\"><svg onload=\"document.title='fired'\">", "<iframe srcdoc=\"<b>\"></iframe>",
        "{{ 7 * 7 }}{% raw %}", "<a href=\"javascript:document.title='fired'\">x</a>",
        "<link rel=stylesheet href=http://127.0.0.1:9/x><base href=http://127.0.0.1:9/>",
        ]  # fmt: skip
FORMULAS = ["=HYPERLINK(\"http://x\")", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1+1",
            "\r=1+1", "\n=1", "=1;2"]  # fmt: skip
ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "a\x08b", "\x9b31m", "\u202e", "\u2028", "\x00"]


def test_no_table_holds_a_formula(tmp_path):
    """a formula in a cell or heading of a table to write → a line; no file"""
    plain = pd.DataFrame({"patient": ["P1"], "probability": [-0.5]})
    write_csv(tmp_path / "plain.csv", plain)
    assert (tmp_path / "plain.csv").read_text() == "patient,probability\nP1,-0.5\n"
    for text in FORMULAS:
        kinds = (object, "str", "category")
        tables = [plain.assign(patient=pd.Series([text], dtype=kind)) for kind in kinds]
        for table in (*tables, plain.rename(columns={"patient": text})):
            with pytest.raises(InputError, match="formula") as caught:
                write_csv(tmp_path / "bad.csv", table)
            assert caught.value.problems[0].isprintable()
    assert not (tmp_path / "bad.csv").exists()


@pytest.mark.parametrize("texts", [
    [FORMULAS[0], HTML[0], ESCAPES[0]], pytest.param([*FORMULAS, *HTML, *ESCAPES], marks=slow),
])  # fmt: skip
def test_names_of_settings_are_plain(texts):
    """a formula, HTML or escape sequence as column, category or name of a cohort's settings → a
    line"""
    age = {"kind": "numeric", "column": "AGE"}
    for text in texts:
        sex = {"kind": "categorical", "column": "SEX", "values": {"F": text}}
        attacks = [{"columns": {text: age}, "clinical": []}, {"name": text},
                   *[{"columns": {"sex": sex}, "clinical": []}] * (text not in HTML)]  # fmt: skip
        for attack in attacks:
            with pytest.raises(InputError) as caught:
                data_config("table", {"root": "x", "hard_stratum": None} | attack)
            assert all(problem.isprintable() for problem in caught.value.problems)


@pytest.mark.parametrize("text", [FORMULAS[0], pytest.param(FORMULAS[3], marks=slow)], ids=repr)
def test_no_formula_comes_out_of_a_run_folder(text, tmp_path, capsys):
    """a formula in the ids of a run folder's tables, or in its settings → a line, or text in the
    report; no table has it"""
    run = make_full_run(tmp_path / "run")
    for name in ("predictions.csv", "folds.csv", "strata.csv", "baselines.csv"):
        good = (run / name).read_text()
        table = pd.read_csv(run / name, dtype=str)
        table.loc[0, "patient"] = text
        table.to_csv(run / name, index=False)
        refused(capsys, "triage" if name == "baselines.csv" else "report", f"run={run}")
        (run / name).write_text(good)
    for number, target in enumerate((text, f"x.{text}")):
        folder = tmp_path / f"sweep{number}"
        for lr in (1e-3, 1e-4):
            settings = config(**{"lr": lr, "optim.lr": lr, "optim._target_": target})
            make_run(folder / f"lr{lr}", settings, n=20, epochs=1)
        with contextlib.suppress(SystemExit):
            main(["compare", f"runs={folder}", "resamples=100"])
        for path in folder.glob("*.csv"):
            cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
            assert text not in cells


@pytest.mark.parametrize(("text", "columns"), [
    ("".join(ESCAPES[1:-1]), [0, 2]),
    *(pytest.param(each, range(5), marks=slow) for each in (ESCAPES[0], "".join(ESCAPES[1:-1]))),
], ids=["few", "clear", "others"])  # fmt: skip
def test_the_terminal_is_not_controlled(text, columns, cohort, tmp_path, capsys, monkeypatch):
    r"""an escape sequence in ids, cells, file names, settings or words of a command → shown as
    \x1b; the terminal receives none"""
    monkeypatch.chdir(tmp_path)
    table = shutil.copytree(cohort, "cohort") / TABLE
    lines = table.read_text().splitlines()
    run = make_run(tmp_path / "run", n=20, epochs=1)
    (run / "config.yaml").write_text(yaml.safe_dump(config(name=text, tags=[text])))
    (tmp_path / "audit.json").write_text(json.dumps({"findings": [{"what": text}]}))
    for column in columns:
        cells = lines[1].split(",")
        cells[column] = f'"{cells[column]}{text}"'
        table.write_bytes("\n".join([lines[0], ",".join(cells), *lines[2:], ""]).encode())
        with pytest.raises(SystemExit) as left:
            main(["audit", "cohort=synthetic", "data.root=cohort", f"out=a{column}.json"])
        assert left.value.code in (0, 1, 2)
    commands = [
        ["report", "run=run"], ["predict", "run=run"], ["triage", "run=run"],
        ["report", f"run={text}"], ["compare", f"runs=[x{text}]"], [text], ["report", text],
        ["report", f"{text}=1"], ["audit", f"cohort={text}"],
        ["audit", "cohort=synthetic", f"data.{text}=1"]]  # fmt: skip
    for words in commands:
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 2
    printed = capsys.readouterr()
    for line in (printed.out + printed.err).split("\n"):
        assert line.isprintable(), repr(line)


def hostile_run(path: Path, text: str) -> Path:
    stratum = {"column": text, "max": 8}
    data = {"name": text, "root": text, "image_pattern": text, "hard_stratum": stratum}
    run = make_full_run(path, name=text, tags=[text], **{f"data.{key}": data[key] for key in data})
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["optim"][text] = settings[text] = text
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    metrics = json.loads((run / "metrics.json").read_text())
    for each in metrics["subgroups"]:
        each |= {"by": text, "group": text}
    metrics["baselines"] |= {text: metrics["baselines"]["logistic_regression"]}
    (run / "metrics.json").write_text(json.dumps(metrics))
    poisoned = lambda found: {  # noqa: E731
        key: each + text if isinstance(each, str) else each for key, each in found.items()
    }
    environment = json.loads((run / "environment.json").read_text(), object_hook=poisoned)
    environment |= {text: text}
    environment["versions"] |= {text: text}
    (run / "environment.json").write_text(json.dumps(environment))
    audit = {"findings": [{"severity": text, "topic": text, "what": text, "action": text}]}
    (run / "audit.json").write_text(json.dumps(audit))
    list_files(run)
    return run


def test_html_of_others_is_escaped(tmp_path):
    """HTML and script in texts of a run folder, and the bytes of the report → every < is escaped"""
    text = HTML[0] + HTML[1]
    run = hostile_run(tmp_path / "run", text)
    main(["report", f"run={run}", f"audit={run}/audit.json", "ids=true"])
    page = (run / "report.html").read_text()
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    assert "</script><script>document" not in page


@slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_no_script_of_others_runs(tmp_path):
    """HTML and script in every text of a run folder and an audit file → shown as text in the
    report: no script runs, nothing is fetched, in Chromium"""
    playwright = pytest.importorskip("playwright.sync_api")
    for number, text in enumerate(HTML):
        run = hostile_run(tmp_path / f"run{number}", text)
        main(["report", f"run={run}", f"audit={run}/audit.json", "ids=true"])
    with playwright.sync_playwright() as started:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=options)
        naive = browser.new_page()
        naive.set_content(f"<title>plain</title>{HTML[0]}")
        naive.wait_for_function("document.title === 'fired'")  # the payload works
        for number, text in enumerate(HTML):
            page, path = browser.new_page(), tmp_path / f"run{number}" / "report.html"
            requests: list[str] = []
            page.on("request", lambda request, urls=requests: urls.append(request.url))
            page.on("dialog", lambda dialog: pytest.fail(dialog.message))
            page.goto(path.as_uri())
            page.wait_for_timeout(200)
            assert page.title() != "fired"
            assert page.locator("iframe, base, a[href^=javascript]").count() == 0
            assert page.locator("img[src=x], svg[onload], link").count() == 0
            assert text[:12] in page.locator("body").inner_text()
            assert requests == [path.as_uri()]
            page.close()
        browser.close()
