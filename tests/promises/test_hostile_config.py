"""Configuration made by an enemy."""

import ast
import os
import time
from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException

from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import check_yaml
from lymphoml.models.build import build, build_model
from tests.promises.hostile import one_line, python, refused
from tests.promises.table import ROOT
from tests.reports.fabricate import make_run

DEFAULTS = {"defaults": ["train", "_self_"]}
RUNS = {"_target_": "os.mkdir", "path": "fired"}
FILES = {
    "a callback": {"callbacks": {"x": RUNS}},
    "a nested callback": {"callbacks": {"x": {"_target_": "builtins.dict", "a": [RUNS]}}},
    "a launcher": {"launcher": RUNS},
    "a launcher's argument": {"launcher": {"n_jobs": RUNS}},
    "a sweeper": {"sweeper": RUNS},
    "a log handler": {"job_logging": {"version": 1, "handlers": {"h": {
        "class": "logging.FileHandler", "filename": "fired"}}, "root": {"handlers": ["h"]}}},
    "a log factory": {"hydra_logging": {"version": 1, "formatters": {"f": {"()": "os.mkdir",
                                                                         "path": "fired"}}}},
    "an environment": {"job": {"env_set": {"LD_PRELOAD": "evil.so"}}},
    "the environment of workers": {"job": {"env_copy": ["HOME"]}},
    "another working folder": {"job": {"chdir": True}},
    "a search path": {"searchpath": ["file:///tmp"]},
    "a package as search path": {"searchpath": ["pkg://antigravity"]},
    "a run folder elsewhere": {"run": {"dir": "/tmp/fired"}},
    "a run folder above": {"run": {"dir": "runs/../../fired"}},
    "a sweep elsewhere": {"sweep": {"dir": "~/fired"}},
    "an unknown environment": {"job": {"env_copy": ["NOT_THERE"]}},
    "a sub-folder above": {"sweep": {"subdir": "../../fired"}},
    "a folder of another key": {"run": {"dir": "${data.root}"}},
    "hydra's own output": {"output_subdir": "../../fired"},
    "a swept callback": {"sweeper": {"params": {"+hydra.callbacks.x._target_": "os.mkdir"}}},
    "a swept environment": {"sweeper": {"params": {"hydra.job.env_set.A": "1,2"}}},
}  # fmt: skip


@pytest.mark.promise(
    "a file for `-cd DIR -cn NAME` that would have Hydra call, write or set something",
    "one line, exit code 2, before anything of it is built",
)
@pytest.mark.parametrize("name", FILES)
def test_a_configuration_file_runs_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sent.yaml").write_text(yaml.safe_dump(DEFAULTS | {"hydra": FILES[name]}))
    # Hydra itself refuses what its launchers and sweepers do not take.
    with pytest.raises((InputError, HydraException), match=r"it may not set hydra|not in 'Basic"):
        check_command_line(["-cd", ".", "-cn", "sent"])
    assert not Path("fired").exists()


CALLBACK = "x: {_target_: os.mkdir, path: fired}"
NESTED_FILES = {  # defaults of the named file, and a file that they reach
    "a node": ([{"extra": "x"}], "extra/x.yaml", f"hydra: {{callbacks: {{{CALLBACK}}}}}"),
    "a node at the root": (["other"], "other.yaml", f"hydra: {{callbacks: {{{CALLBACK}}}}}"),
    "a package": ([{"extra": "x"}], "extra/x.yaml", f"# @package hydra.callbacks\n{CALLBACK}"),
    "a package of the list": ([{"extra@hydra.callbacks": "x"}], "extra/x.yaml", CALLBACK),
    "a package by a name": ([{"extra": "hydra"}], "extra/hydra.yaml",
                            f"# @package _name_\ncallbacks: {{{CALLBACK}}}"),
    "a list within": ([{"extra": "x"}], "extra/x.yaml",
                      "defaults: [{override /hydra/launcher: y}]"),
    "two files on": ([{"extra": "[x]"}], "extra/x.yaml",
                     "defaults: [{/further@hydra.callbacks: y}]"),
    "a launcher of its own": ([{"override hydra/launcher": "joblib"}],
                              "hydra/launcher/joblib.yaml", "_target_: os.mkdir"),
    "any group of hydra's": ([{"hydra/env": "x"}], "hydra/env/x.yaml", CALLBACK),
    "a folder by a name": ([{"extra": "x"}], "extra/x.yaml", "# @package _global_\nname: ../x"),
    "another folder": ([{"extra": "../../x"}], "extra/x.yaml", "lr: 1"),
}  # fmt: skip


@pytest.mark.promise("the same in a file that a defaults list reaches", "one line, exit code 2")
@pytest.mark.parametrize("name", NESTED_FILES)
def test_a_file_reached_through_defaults_runs_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defaults, path, content = NESTED_FILES[name]
    Path("sent.yaml").write_text(yaml.safe_dump({"defaults": ["train", *defaults, "_self_"]}))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    with pytest.raises(InputError) as caught:
        check_command_line(["-cd", ".", "-cn", "sent"])
    assert len(caught.value.problems) == 1


def test_a_file_reached_by_an_override_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("extra").mkdir()
    Path("extra/x.yaml").write_text("lr: 1")
    Path("extra/y.yaml").write_text(f"hydra: {{callbacks: {{{CALLBACK}}}}}")
    check_command_line(["-cd", ".", "+extra=x"])
    for words in (["-cd", ".", "+extra=x,y", "-m"], ["-cd", ".", "+extra=glob(*)", "-m"],
                  ["hydra.searchpath=[file://.]", "+extra=y"]):  # fmt: skip
        with pytest.raises(InputError, match="may not set hydra"):
            check_command_line(words)


@pytest.mark.promise(
    "the same by a launcher chosen in the file: a command for the cluster's shell",
    "one line, exit code 2",
)
def test_a_launcher_gets_no_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    chosen = {"defaults": ["train", {"override hydra/launcher": "submitit_slurm"}, "_self_"]}
    Path("fair.yaml").write_text(yaml.safe_dump(
        chosen | {"hydra": {"launcher": {"partition": "gpu", "timeout_min": 9}}}))  # fmt: skip
    check_command_line(["-cd", ".", "-cn", "fair"])
    for key, value in (("setup", ["touch fired"]), ("additional_parameters", {"wrap": "x"}),
                       ("submitit_folder", "/tmp/x")):  # fmt: skip
        hydra = {"hydra": {"launcher": {key: value}}}
        Path("sent.yaml").write_text(yaml.safe_dump(chosen | hydra))
        with pytest.raises(InputError, match=f"may not set hydra.launcher.{key}"):
            check_command_line(["-cd", ".", "-cn", "sent"])
    check_command_line(["-cd", ".", "-cn", "fair", "hydra.launcher.setup=[module load x]"])


def test_a_callback_would_run_and_is_stopped_in_a_process(tmp_path):
    """The same file through Hydra alone leaves a trace: the attack is one."""
    hydra = {"callbacks": {"x": {"_target_": "subprocess.check_call", "args": ["mkdir", "fired"]}}}
    (tmp_path / "sent.yaml").write_text(yaml.safe_dump(DEFAULTS | {"hydra": hydra}))
    done = python(ROOT / "train.py", "-cd", tmp_path, "-cn", "sent", cwd=tmp_path)
    assert done.returncode == 2
    assert "hydra.callbacks.x" in one_line(done.stderr)
    assert not (tmp_path / "fired").exists()
    code = (
        "import hydra\n@hydra.main(version_base='1.3', config_path='.', config_name='plain')\n"
        "def main(config): pass\nmain()"
    )
    quiet = {"callbacks": {"x": {"_target_": "pathlib.Path", "_args_": ["fired"]}}}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({"hydra": quiet}))
    (tmp_path / "alone.py").write_text(code)
    built = python("alone.py", cwd=tmp_path)
    assert "PosixPath" in built.stderr  # Hydra has built it, and calls its on_run_start in vain


def test_sweeps_of_ours_pass():
    for sweep in ("ablation", "choices", "folds", "pixels", "presets"):
        check_command_line(["-cd", str(ROOT / "sweeps"), "-cn", sweep, "data.root=/x"])
    check_command_line(["-m", "optim=sgd,adam", "name=a,b"])


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
YAML = {
    "a tag that calls": "tags: !!python/object/apply:os.mkdir [fired]",
    "a tag that names": "tags: !!python/name:os.system",
    "a tag of a class": "!!python/object/new:os.mkdir [fired]",
    "a tag of one's own": "tags: !x 1",
    "a billion laughs": LAUGHS,
    "an alias of itself": "a: &a [*a]",
    "a merge": "a: &a {b: 1}\nc: {<<: *a}",
    "depth": "a: " + "[" * 5000 + "]" * 5000,
    "depth of mappings": "a: " + "{a: " * 3000,
    "a key twice": "lr: 1\nlr: 2",
    "two documents": "lr: 1\n---\nlr: 2",
    "no mapping": "- 1",
    "binary": "\x00\x01",
    "an escape": "a: \x1b[2J",
    "size": "a: " + "x" * (2 << 20),
    "the environment": "name: ${oc.env:HOME}",
    "the environment, hidden": "tags: ['${oc.${lr}:HOME}']",
    "Hydra's own": "tags: ['${hydra:runtime.cwd}']",
    "a text made a value": "tags: '${oc.decode:\"[1]\"}'",
    "another key": "name: ${lr}",
    "an unknown key": "surprise: 1",
    "another type": "data: 3",
    "a number that is none": "seed: .nan",
}


@pytest.mark.promise(
    "tags, aliases of aliases, depth, keys twice, interpolations in a run's `config.yaml`",
    "one line, exit code 2, in under 5 seconds; the environment is not told",
)
@pytest.mark.parametrize("name", YAML)
def test_a_runs_configuration_is_plain(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "run", n=20, epochs=1)
    (run / "config.yaml").write_text(YAML[name])
    started = time.process_time()
    said = refused(capsys, "predict", f"run={run}")
    if name not in ("an unknown key", "another type", "a number that is none", "another key"):
        for words in (["report"], ["triage"]):
            if name not in ("the environment", "the environment, hidden", "Hydra's own",
                            "a text made a value"):  # fmt: skip
                refused(capsys, *words, f"run={run}")
    assert time.process_time() - started < 5 * 5
    assert os.environ["HOME"] not in said.replace(str(tmp_path), "")
    assert not Path("fired").exists()


@pytest.mark.promise("the same in a file for `-cd DIR -cn NAME`", "one line")
@pytest.mark.parametrize("name", ["a tag that calls", "a tag that names", "a billion laughs",
                                  "an alias of itself", "depth", "a key twice", "size",
                                  "the environment"])  # fmt: skip
def test_a_configuration_file_is_plain(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sent.yaml").write_text(f"defaults: [train, _self_]\n{YAML[name]}")
    with pytest.raises(InputError) as caught:
        check_command_line(["-cd", ".", "-cn", "sent"])
    assert len(caught.value.problems) == 1
    assert not Path("fired").exists()


@pytest.mark.promise(
    "words of a command line with bombs, tags, control letters, names that lead elsewhere",
    "one line, exit code 2",
)
@pytest.mark.parametrize("word", [
    "name=../../x", "name=/tmp/x", "name=..", "name=.hidden", "name=-rf", "name=a/b", "name=",
    "name=a,../b", "+name=../x", "name==1+1", "name=<b>", "name=x\n", "name=\x1b[2J", "tags=[\x00]",
    "name=" + "x" * 300, "name=${oc.env:HOME}", "--experimental-rerun=x.pickle",
])  # fmt: skip
def test_words_that_lead_elsewhere(word):
    with pytest.raises(InputError):
        check_command_line([word])


@pytest.mark.promise("bombs and tags in a command's `key=value`", "one line, exit code 2")
@pytest.mark.parametrize("value", ["{a: &a [x], b: *a}", "!!python/name:os.system", "[" * 3000,
                                   "{a: 1, a: 2}", "\x1b[2J", "${oc.env:HOME}"])  # fmt: skip
def test_values_of_commands_are_plain(value, capsys):
    refused(capsys, "audit", "cohort=synthetic", f"data.columns={value}")


@pytest.mark.promise(
    "the environment asked for by a setting, to be stored with the run", "one line, exit code 2"
)
def test_the_environment_does_not_reach_a_run(tmp_path, record_property):
    words = ["tags=['${oc.env:HOME}']", "tags=['${hydra:runtime.cwd}']"]
    for word in words:
        done = python(ROOT / "train.py", word, "logger=none", cwd=tmp_path)
        assert done.returncode == 2
        assert os.environ["HOME"] + "'" not in one_line(done.stderr)
        assert not list(tmp_path.rglob("*.yaml"))
    record_property("tried", len(words))


NESTED = [RUNS, [RUNS], [[RUNS]], {"a": RUNS}, {"a": [{"b": RUNS}]}, ({"a": RUNS},)]


@pytest.mark.promise("a `_target_` within an argument, in every nesting", "refused, never built")
@pytest.mark.parametrize("value", NESTED, ids=str)
def test_nothing_nested_is_built(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="within an argument"):
        build({"_target_": "torch.optim.SGD", "lr": value}, [])
    fusion = {"_target_": "lymphoml.models.fusion.ClinicalOnly"}
    spec = {"_target_": "lymphoml.models.mil.MILModel", "encoder": {}, "pooling": {}}
    with pytest.raises(InputError):
        build_model(spec | {"fusion": fusion | {"hidden": value}}, 2)
    with pytest.raises(InputError):
        build_model(spec | {"fusion": fusion, "more": value}, 2)
    assert not Path("fired").exists()


def test_plain_yaml_passes():
    for path in [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "sweeps").glob("*.yaml")]:
        check_yaml(path.read_text())


BANNED = {"pickle", "dill", "shelve", "joblib", "marshal", "cloudpickle", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load",
         "yaml.full_load", "pd.read_pickle", "pd.read_hdf", "np.fromfile", "torch.jit.load",
         "torch.hub.load", "__import__"}  # fmt: skip
FLAGS = {"allow_pickle": False, "shell": False, "weights_only": True}


def complaints(source: str) -> list[str]:
    """What in a program's text could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if names == ["cpu_count", "joblib"]:
                continue
            found += [name for name in names if name.split(".")[0] in BANNED]
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            found.append(ast.unparse(node.func))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            told = {each.arg for each in node.keywords}
            found += [] if "weights_only" in told else ["torch.load"]
        if isinstance(node, ast.keyword) and node.arg in FLAGS:
            safe = isinstance(node.value, ast.Constant) and node.value.value is FLAGS[node.arg]
            found += [] if safe else [node.arg]
    return found


@pytest.mark.promise(
    "`weights_only=False`, pickle, eval, a shell in a file of ours", "a test fails; there is none"
)
def test_nothing_of_ours_runs_what_it_reads(record_property):
    files = [*(ROOT / "lymphoml").rglob("*.py"), ROOT / "train.py", ROOT / "predict.py"]
    assert {str(path): told for path in files if (told := complaints(path.read_text()))} == {}
    record_property("tried", len(files))


@pytest.mark.parametrize("source", [
    "torch.load(x)", "torch.load(x, weights_only=False)", "torch.load(x, weights_only=safe)",
    "import pickle", "from joblib import load", "eval('1')", "os.system('x')",
    "subprocess.run('x', shell=True)", "yaml.load(x, L)", "np.load(x, allow_pickle=True)",
    "pd.read_pickle(x)",
])  # fmt: skip
def test_the_search_finds(source):
    assert complaints(source)
