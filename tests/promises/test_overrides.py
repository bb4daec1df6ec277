"""Overrides: each has an effect, or is refused"""

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf

from lymphoml.cli.cohort_commands import Features
from lymphoml.cli.config import CONF, _compose, compose_config
from lymphoml.cli.entry import run_cli
from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.cli.job import _overrides
from lymphoml.cli.main import COMMANDS
from lymphoml.cli.options import REQUIRED, parse
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import leaves
from lymphoml.runs.naming import slug
from lymphoml.runs.prepare import _check_module, build_model
from tests.promises.jobs import ROOT, errors, files, problem, refused
from tests.reports.fabricate import make_run

MAKE = ["make", "-o", ".venv/.ready"]  # without making .venv
NO_MAKE = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
SUBDIR = "hydra.sweep.subdir=${hydra:job.num}"
WITHOUT_EFFECT = {  # words of train.py: what the line names
    "lr=1e-2 lr=1e-5": "lr: is given twice",
    "-m lr=1e-2,1e-3 lr=1e-5": "lr: is given twice",
    "optim=sgd +optim=adam": "optim: is given twice",
    "data.augment.flip=true data.augment={flip:true}": "data.augment.flip: is given twice",
    "lr=1 ~lr": "lr: is given twice",
    "-cd sweeps -cn ablation optim=sgd": "optim: is swept; give hydra.sweeper.params.optim=",
    "-m model.encoder.weights=a/w.pt,b/w.pt": "share a run folder",
    "-m data.root=a,b": "share a run folder",
    "hydra.mode=MULTIRUN lr=0.1,1e-1": "share a run folder",
    "hydra.job.chdir=true": "hydra.job.chdir=True",
    "hydra={job:{chdir:true}}": "hydra.job.chdir=True",
    "-m hydra.run.dir=x lr=1,2": "hydra.run.dir: has no effect",
    "hydra.sweep.dir=x": "add -m",
    "hydra/launcher=joblib": "add -m",
    "hydra.runtime.cwd=x": "Hydra sets it",
    "+hydra.foo=1": "hydra.foo: no such key; the nearest is hydra.",
    "+hydra.run.dri=1": "hydra.run.dri: no such key; the nearest is hydra.run.dir",
}
WITH_EFFECT = (
    "data=table data.root=x", "model/encoder=resnet18 model/encoder@pretrain.encoder=resnet34",
    "hydra.run.dir=x", "hydra.job.chdir=false", "-m fold=0,1", "-m hydra.sweep.dir=x lr=1,2",
    "-m hydra/launcher=joblib optim=glob(*)", f"-m data.root=a,b {SUBDIR}",
    "-m model.encoder.weights=a/w.pt,b/v.pt", "-cd sweeps -cn ablation name=x",
    "-cd sweeps -cn ablation hydra.sweeper.params.optim=sgd",
)  # fmt: skip
REFUSED = {  # words of train.py: the line
    "+trainer.accumulate_grad_batches=40": "no such key; the nearest is trainer.",
    "+data.bag_size=8": "data.bag_size: no such key; the nearest is data.batch_size",
    "trainer.devices=2": "a training uses one device, and folds are trained side by side",
    "++trainer.devices=2": "a training uses one device, and folds are trained side by side",
    "+trainer.strategy=ddp": "a training uses one device, and folds are trained side by side",
    "trainer.acelerator=cpu": "trainer.acelerator: no such key; the nearest is trainer.accelerator",
    "data.image_baselines.x={}": "a list is set whole, as key=[a,b]",
    "trainer.num_threads=1111111111111111111111": "1111: must be <= 1024",
    "foo=1": "foo: no such key; the nearest is fold",
    "data.columns.height={kind:numeric,column:H}": "+data.columns.height=... adds it",
    "~seed": "seed: is missing",
    "lr=nan": "lr=nan: must be a finite number",
    "lr=0": "lr=0: must be > 0",
    "optim.lr=3": "optim.lr=3: give lr=3 instead",
    "model.encoder.trainable=false": "+model.encoder.trainable=... adds it",
    "data=synthetic data.table=x.csv": "data.table: does not go with data.layout=kaggle",
    "data.clinical=[age,age]": "data.clinical: age is there twice",
    "data=mil_table data.table=x.csv data.id_column=N": "data.id_column: does not go with data.la",
    "experiment=mil_table data.table=x.csv +data.columns.age={kind:numeric,column:age}":
        "data.columns: does not go with data.layout=mil_table",
    "optim=sdg": "Could not find 'optim/sdg' Available options in 'optim': adam adamw sgd",
    "trainer=3": "Config group override must be a string or a list",
}  # fmt: skip
OF_COMMANDS = {
    "predict run=r data=mine": "data=mine': give data.KEY=VALUE",
    "predict run=A run=B": "run: is given twice",
    "predict run=r data.root=a data.root=b": "data.root: is given twice",
    "predict run=r +out=x": "+out: no such key; the nearest is out",
    "predict run=r out.x=1": "out.x: no such key; the nearest is out",
    "report run=r thumbnail=false": "thumbnail: no such key; the nearest is thumbnails",
    "audit cohort=synthetic data.image_patern=*.png": "the nearest is data.image_pattern",
    "synthesize out=x images=3": "images=3': must be whole numbers, as [1,2]",
    "compare runs=r seed=1e3": "seed=1e3': must be a whole number",
    "audit cohort=synthetic data.batch_size=2": "data.batch_size: has no effect on this command",
    "features cohort=synthetic data.folds=3 data.augment={flip:true}": "data.augment, data.folds:",
    "features cohort=synthetic data.root=. seed=1": "seed=1: has no effect with encoder=morphology",
    "features cohort=synthetic data.root=. encoder=resnet18 weights=w.pt seed=1":
        "seed=1: has no effect with weights=w.pt",
    "pretrain cohort=synthetic trainer.max_epochs=2": "trainer.max_epochs: has no effect",
    "report run=r tried=4": "tried=4: has no effect with run=",
    "compare runs=[r,s] seed=-1": "seed=-1: must be >= 0",
    "export run=r out=x accept_changes=true": "accept_changes: has no effect without quantize",
    "explain run=r pictures=3": "pictures=3: has no effect without occlusion or grad_cam",
    "features cohort=synthetic data.root=. data.normalize_images=false":
        "data.normalize_images: has no effect with encoder=morphology",
    "submit ~run": "~run: give options as key=value",
}  # fmt: skip


@pytest.mark.parametrize("words", WITHOUT_EFFECT)
def test_an_override_without_effect_is_refused(words, monkeypatch):
    """a key given twice, jobs of a sweep in one folder, Hydra's settings that change nothing → one
    line that names the key, exit code 2"""
    monkeypatch.chdir(ROOT)
    assert WITHOUT_EFFECT[words] in problem(lambda: check_command_line(words.split()))


@pytest.mark.parametrize("file", [
    "hydra: {sweeper: {params: {optim: 'sgd,adam'}}}", "hydra: {launcher: {n_jobs: 2}}",
    "defaults: [train, {override hydra/launcher: slurm}, _self_]",
])  # fmt: skip
def test_a_sweeps_file_without_m_is_refused(file, tmp_path):
    """a file whose sweep parameters or launcher have no effect, since neither it nor the command
    line asks for a sweep → one line that says how"""
    (tmp_path / "mine.yaml").write_text(file)
    words = ["-cd", str(tmp_path), "-cn", "mine"]
    with pytest.raises(InputError, match="add -m"):
        check_command_line(words)
    check_command_line([*words, "-m"])


@pytest.mark.parametrize(("name", "task"), [
    ("ablation", ["optim=sgd", "lr=0.001"]), ("train", ["+choice=ema"]),
])  # fmt: skip
@pytest.mark.parametrize("moved", [None, "demo", "moved/lr=1,a=b"])
def test_the_command_that_is_recorded_runs_the_job_alone(name, task, moved, monkeypatch):
    """a job of a named sweep, with an option of a folder of one's own, in a run folder of another
    place → the command in its run folder names file and folders, and is accepted"""
    monkeypatch.chdir(ROOT)
    found = SimpleNamespace(path=str(ROOT / "sweeps"), provider="command-line")
    hydra = SimpleNamespace(
        overrides=SimpleNamespace(task=task),
        job=SimpleNamespace(config_name=name),
        runtime=SimpleNamespace(config_sources=[found], cwd=str(ROOT)),
    )  # fmt: skip
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    words = _overrides(Path("runs", moved or f"cv/{slug(task)}"), "cv", in_sweep=name != "train")
    check_command_line(words)
    primary, other = [CONF, ROOT / "sweeps"] if name == "train" else [ROOT / "sweeps", CONF]
    with initialize_config_dir(str(primary), version_base="1.3"):
        path = f"hydra.searchpath=[file://{other}]"
        composed = compose(
            name, [path, *(word for word in words if "=" in word)], return_hydra_config=True
        )
    assert not moved or composed.hydra.run.dir == f"runs/{moved}"
    assert composed.lr == (1e-4 if name == "train" else 1e-3)


@pytest.mark.parametrize(("words", "says"), [
    ("ARGS=lr=1", "experiment=paper; sweeps/ablation.yaml, 8 configurations"),
    ("SWEEP=ablation_small ARGS=experiment=paper_code", "experiment=paper_code; sweeps/ablation_s"),
    ("SWEEP=presets", "SWEEP=presets: must be ablation or ablation_small"),
])  # fmt: skip
def test_make_ablation_says_first_what_it_runs(words, says):
    command = [*MAKE, "-s", "ablation", "BIN=/nowhere", *words.split()]
    printed = subprocess.run(command, cwd=ROOT, stdout=-1, stderr=-2, env=NO_MAKE).stdout.decode()
    assert says in printed.splitlines()[0]


@pytest.mark.parametrize("words", WITH_EFFECT)
def test_an_override_with_effect_is_taken(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_command_line(words.split())


@pytest.mark.parametrize("words", REFUSED)
def test_what_training_refuses_is_one_whole_line(words, capsys):
    """an unknown key of train.py, with + or ++ too, an unknown option of a group, NaN → one line
    with the nearest key or the options there are, exit code 2"""
    (line,) = errors(capsys, lambda: run_cli(lambda: compose_config(*words.split())))
    assert REFUSED[words] in line


@pytest.mark.parametrize(("preset", "word"), [
    ("best", "data.train_bag_size=16"), ("best", "data.crop=8"), ("best", "data.augment.flip=true"),
    ("best", "data.batch_size=8"), ("morphology", "data.resize=32"),
    ("paper model/fusion=clinical", "model.instance_dropout=0.2"),
    ("small_network optim=sgd", "optim.momentum=0.5"),
])  # fmt: skip
def test_a_setting_that_the_model_does_not_read_is_one_line(preset, word):
    """a setting of pixels, bags or steps where the model has none, an optimiser's momentum that the
    scheduler sets → one line that names the setting"""
    config = compose_config(*f"experiment={preset}".split(), word)
    config = config.replace({"data.normalize_images": True})
    with pytest.raises(InputError, match=re.escape(word.partition("=")[0])):
        _check_module(config, build_model(config, clinical_dim=1), Path("run"), [word])


@pytest.mark.parametrize("words", OF_COMMANDS)
def test_what_other_commands_refuse_is_one_line(words, capsys):
    """a group's option, a key given twice or unknown, to a command that has none such → one line
    that names it and the nearest key, exit code 2"""
    assert OF_COMMANDS[words] in refused(capsys, *words.split())


OTHER = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v / 2,
         str: lambda v: f"{v}x", list: lambda v: [], dict: lambda v: {"x": 1},
         type(None): lambda v: 2}  # fmt: skip


def assert_each_arrives_or_is_refused(values, read):
    """`read` returns the section with these changes by key, or names the keys that it refuses."""
    changes = {key: OTHER[type(value)](value) for key, value in leaves(values)}
    arrived = None
    while arrived is None:
        try:
            arrived = dict(leaves(read(changes)))
        except (InputError, HydraException) as error:
            named = [word for word in re.split(r"[\s:,='\[\]]+", str(error)) if word]
            refused = {k for k in changes for word in named if f"{k}.".startswith(f"{word}.")}
            if not refused:
                raise
            changes = {key: value for key, value in changes.items() if key not in refused}
    assert changes
    for key, value in changes.items():
        found = {name: each for name, each in arrived.items() if f"{name}.".startswith(f"{key}.")}
        assert found, key
        assert found.get(key, value) in (value, str(value)), key


def test_every_key_of_training_arrives_or_is_refused():
    """each key of train.py with another value → that value is in what trains, or a line names it"""
    values = yaml.safe_load(OmegaConf.to_yaml(_compose([]), resolve=True))
    del values["data"]["label_values"], values["data"]["date_formats"]  # no keys of Hydra's grammar
    del values["model"]["encoder"]["weights"]  # no file: refused by its own line

    def read(changes):
        words = [f"++{key}={json.dumps(value)}" for key, value in changes.items()]
        return compose_config(*words).to_dict()

    assert_each_arrives_or_is_refused(values, read)


def test_every_key_of_a_cohort_arrives_or_is_refused():
    """each key of data=... given to a command on a cohort → the same"""

    def read(changes):
        data = OmegaConf.create({})
        for key, value in changes.items():
            OmegaConf.update(data, key.removeprefix("data."), value, force_add=True)
        given = OmegaConf.to_container(data)
        section = Features(cohort="synthetic", data=given).data_config("folds")
        return {"data": section.to_dict()}

    values = yaml.safe_load(OmegaConf.to_yaml(_compose(["data=synthetic"]).data, resolve=True))
    assert_each_arrives_or_is_refused({"data": values}, read)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_of_every_command_arrives_or_is_refused(name):
    """each key of another command with another value → the command has it, and reads it"""
    command = COMMANDS[name]
    source = "".join(inspect.getsource(each) for each in command.__mro__[:-1])
    required = {each.name: "a" for each in fields(command) if each.default == REQUIRED}
    for key in fields(command):
        values = {"int": 7, "float": 0.5, "bool": not key.default, "list": [1, 2], "dict": {"a": 1}}
        kind = str(getattr(key.type, "__name__", key.type)).removesuffix(" | None")
        value = values.get(kind, "7")
        words = required | {key.name: json.dumps(value)}
        parsed = parse(command, [f"{word}={given}" for word, given in words.items()])
        assert str(getattr(parsed, key.name)).replace("'", "") == str(value).replace("'", "")
        assert f"self.{key.name}" in source


def test_make_clean_removes_the_demo_alone(tmp_path):
    """`make clean` with runs of one's own in runs/demo → the demo's files go, those runs stay"""
    demo = make_run(tmp_path / "runs" / "demo", n=20, epochs=1)
    own = make_run(demo / "lr=0.1", n=20, epochs=1)
    before = files(own)
    for _ in ("with a demo", "without"):
        subprocess.run(["make", "-s", "-f", ROOT / "Makefile", "clean"], cwd=tmp_path, check=True)
        assert [*demo.iterdir()] == [own]
        assert files(own) == before


def test_make_takes_a_folder_with_a_space():
    """`make train DATA="my cohort"` → one override, data.root"""
    make = [*MAKE, "-n", "DATA=my cohort", "train"]
    line = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, env=NO_MAKE).stdout
    shell = ["sh", "-c", f"printf '%s\\n' {line}"]
    words = subprocess.run(shell, env={"DATA": "my cohort"}, capture_output=True, text=True)
    assert "data.root='my cohort'" in words.stdout.splitlines()


def test_a_wheel_holds_the_configuration(tmp_path):
    """`pip install .`, then a command elsewhere → it finds all of conf/ and every template"""
    words = ["-q", "egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path]
    subprocess.run([sys.executable, "setup.py", *words], cwd=ROOT, check=True, capture_output=True)

    def names(folder):
        return {path.relative_to(folder) for path in folder.rglob("*.*") if path.suffix != ".pyc"}

    assert names(ROOT / "lymphoml") < names(tmp_path / "lymphoml")
    assert names(CONF) == names(tmp_path / "lymphoml" / "conf")
    assert {each.name for each in tmp_path.iterdir()} == {
        "hydra_plugins", "lymphoml", "lymphoml.egg-info"}  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", "from lymphoml.cli.config import CONF; print(CONF)"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()) == tmp_path / "lymphoml" / "conf"
