"""Hostile configuration"""

import os
import time
from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf

from lymphoml.cli.config import to_plain_dict
from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import parse_yaml
from lymphoml.models.build import build, build_model
from tests.promises.jobs import ROOT, few, problem, refused
from tests.reports.fabricate import make_run

RUNS = {"_target_": "os.mkdir", "path": "fired"}
CALLBACK = "x: {_target_: os.mkdir, path: fired}"
HYDRA = {
    "a callback": {"callbacks": {"x": RUNS}},
    "a launcher": {"launcher": RUNS},
    "a log handler": {"job_logging": {"handlers": {"h": {"class": "logging.FileHandler"}}}},
    "an environment": {"job": {"env_set": {"LD_PRELOAD": "evil.so"}}},
    "another working folder": {"job": {"chdir": True}},
    "a search path": {"searchpath": ["file:///tmp"]},
    "a run folder above": {"run": {"dir": "runs/../../fired"}},
    "a sub-folder above": {"sweep": {"subdir": "../../fired"}},
    "a folder of another key": {"run": {"dir": "${data.root}"}},
    "a swept callback": {"sweeper": {"params": {"+hydra.callbacks.x._target_": "os.mkdir"}}},
}
REACHED = {  # defaults of the named file, and a file that they reach
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
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 12))
YAML = {
    "a tag that calls": "tags: !!python/object/apply:os.mkdir [fired]",
    "a tag of one's own": "tags: !x 1",
    "a billion laughs": LAUGHS,
    "an alias of itself": "a: &a [*a]",
    "depth": "a: " + "[" * 5000 + "]" * 5000,
    "a key twice": "lr: 1\nlr: 2",
    "no mapping": "- 1",
    "an escape": "a: \x1b[2J",
    "size": "a: " + "x" * (2 << 20),
}
PLAIN = YAML | {
    "the environment": "name: ${oc.env:HOME}",
    "the environment, hidden": "tags: ['${oc.${lr}:HOME}']",
    "an unknown key": "surprise: 1",
    "another type": "data: 3",
    "a number that is none": "seed: .nan",
    "a date": "data: {reference_date: 2021-01-01}",
}
SENT = ["-cd", ".", "-cn", "sent"]


def send(defaults=(), **more):
    """Write `sent.yaml`, which a user names with -cn."""
    content = {"defaults": ["train", *defaults, "_self_"]} | more
    Path("sent.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("fired").exists()


def test_a_configuration_file_runs_nothing():
    """a file for `-cd DIR -cn NAME` that makes Hydra call, write or set something; bombs, tags,
    aliases, duplicate keys and interpolations in it → one line, exit code 2, before anything of it
    is built"""
    for name, hydra in HYDRA.items():
        send(hydra=hydra)
        # Hydra itself refuses what its launchers and sweepers do not take.
        with pytest.raises((InputError, HydraException), match=r"may not set hydra|not in 'Basic"):
            check_command_line(SENT)
        assert not Path("fired").exists(), name
    for name in ("a tag that calls", "a billion laughs", "depth", "a key twice", "size",
                 "the environment"):  # fmt: skip
        Path("sent.yaml").write_text(f"defaults: [train, _self_]\n{PLAIN[name]}")
        assert problem(lambda: check_command_line(SENT)), name


@pytest.mark.parametrize("name", REACHED)
def test_a_file_that_is_reached_runs_nothing(name):
    """such a file, reached through a defaults list or an override → one line, exit code 2"""
    defaults, path, content = REACHED[name]
    send(defaults)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    assert problem(lambda: check_command_line(SENT))
    if name != "a node":
        return
    Path("extra/y.yaml").write_text("lr: 1")
    check_command_line(["-cd", ".", "+extra=y"])
    for words in (["-cd", ".", "+extra=x,y", "-m"], ["-cd", ".", "+extra=glob(*)", "-m"],
                  ["hydra.searchpath=[file://.]", "+extra=x"]):  # fmt: skip
        with pytest.raises(InputError, match="may not set hydra"):
            check_command_line(words)


def test_a_launcher_gets_no_commands():
    """a launcher chosen in such a file, with a command for the cluster's shell → one line, exit
    code 2"""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    chosen = [{"override hydra/launcher": "submitit_slurm"}]
    for key, value in (("setup", ["touch fired"]), ("additional_parameters", {"wrap": "x"}),
                       ("submitit_folder", "/tmp/x")):  # fmt: skip
        send(chosen, hydra={"launcher": {key: value}})
        with pytest.raises(InputError, match=f"may not set hydra.launcher.{key}"):
            check_command_line(SENT)
    send(chosen, hydra={"launcher": {"partition": "gpu", "timeout_min": 9}})
    check_command_line([*SENT, "-m"])
    check_command_line([*SENT, "-m", "hydra.launcher.setup=[module load x]"])


def test_the_projects_own_configuration_passes():
    for sweep in ("ablation", "choices", "folds", "learning_curve", "pixels", "presets"):
        check_command_line(["-cd", str(ROOT / "sweeps"), "-cn", sweep, "data.root=/x"])
    check_command_line(["-m", "optim=sgd,adam", "name=a,b"])
    for path in [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "sweeps").glob("*.yaml")]:
        parse_yaml(path.read_text())


@pytest.mark.parametrize("name", few(PLAIN, "a tag that calls", "a billion laughs", "a date"))
def test_a_runs_configuration_is_plain(name, tmp_path, capsys):
    """tags, aliases of aliases, depth, duplicate keys, interpolations in a run's `config.yaml` →
    one line, exit code 2, in under 5 seconds; the environment is not shown"""
    run = make_run(tmp_path / "run", n=20, epochs=1)
    (run / "config.yaml").write_text(PLAIN[name])
    started = time.process_time()
    line = refused(capsys, "predict", f"run={run}")
    assert "config.yaml" in line
    for command in ("report", "triage") if name in YAML else ():
        refused(capsys, command, f"run={run}")
    assert time.process_time() - started < 5 * 5
    assert os.environ["HOME"] not in line.replace(str(tmp_path), "")


@pytest.mark.parametrize("word", [
    "name=../../x", "name=..", "name=.hidden", "name=-rf", "name=", "name=a,../b", "+name=../x",
    "name=x\n", "tags=[\x00]", "name=" + "x" * 300, "name=${oc.env:HOME}",
    "--experimental-rerun=x.pickle",
])  # fmt: skip
def test_overrides_that_lead_elsewhere(word):
    """overrides with bombs, tags, control letters, names that lead elsewhere → one line, exit code
    2"""
    with pytest.raises(InputError):
        check_command_line([word])


def test_values_of_commands_are_plain(capsys):
    """bombs, tags and references to the environment in a command's `key=value`, or in a setting to
    be stored with a run → one line, exit code 2"""
    for value in ("!!python/name:os.system", "[" * 3000, "\x1b[2J", "${oc.env:HOME}"):
        refused(capsys, "audit", "cohort=synthetic", f"data.columns={value}")
    for text in ("${oc.env:HOME}", "${hydra:runtime.cwd}"):
        with pytest.raises(InputError, match="only other keys"):
            to_plain_dict(OmegaConf.create({"tags": [text]}))


def test_nothing_nested_is_built():
    """a `_target_` within an argument, in every nesting → refused, never built"""
    fusion = {"_target_": "lymphoml.models.fusion.ClinicalOnly"}
    spec = {"_target_": "lymphoml.models.mil.MILModel", "encoder": {}, "pooling": {}}
    for value in (RUNS, [[RUNS]], {"a": [{"b": RUNS}]}, ({"a": RUNS},)):
        with pytest.raises(InputError, match="within an argument"):
            build({"_target_": "torch.optim.SGD", "lr": value}, [])
        for model in ({"fusion": fusion | {"hidden": value}}, {"fusion": fusion, "more": value}):
            with pytest.raises(InputError):
                build_model(spec | model, 2)
