"""Overrides: each has an effect, or is refused"""

import subprocess

import pytest

from lymphoml.cli.config import compose_config
from lymphoml.cli.entry import run_cli
from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.core.errors import InputError
from tests.promises.jobs import ROOT, files, one_line, refused
from tests.reports.fabricate import make_run

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
    "++trainer.devices=2": "trainer.devices: no such key; the nearest is trainer.",
    "trainer.acelerator=cpu": "trainer.acelerator: no such key; the nearest is trainer.accelerator",
    "foo=1": "foo: no such key; the nearest is fold",
    "data.columns.height={kind:numeric,column:H}": "+data.columns.height=... adds it",
    "~seed": "seed: is missing",
    "lr=nan": "lr=nan: must be a finite number",
    "lr=0": "lr=0: must be > 0",
    "optim.lr=3": "optim.lr=3: give lr=3 instead",
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
    "submit ~run": "~run: give options as key=value",
}  # fmt: skip


@pytest.mark.parametrize("words", WITHOUT_EFFECT)
def test_an_override_without_effect_is_refused(words, monkeypatch):
    """a key given twice, jobs of a sweep in one folder, Hydra's settings that change nothing → one
    line that names the key, exit code 2"""
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError) as caught:
        check_command_line(words.split())
    assert WITHOUT_EFFECT[words] in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("words", WITH_EFFECT)
def test_an_override_with_effect_is_taken(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_command_line(words.split())


@pytest.mark.parametrize("words", REFUSED)
def test_what_training_refuses_is_one_whole_line(words, capsys):
    """an unknown key of train.py, with + or ++ too, an unknown option of a group, NaN → one line
    with the nearest key or the options there are, exit code 2"""
    with pytest.raises(SystemExit) as ended:
        run_cli(lambda: compose_config(*words.split()))
    assert ended.value.code == 2
    assert REFUSED[words] in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("words", OF_COMMANDS)
def test_what_other_commands_refuse_is_one_line(words, capsys):
    """a group's option, a key given twice or unknown, to a command that has none such → one line
    that names it and the nearest key, exit code 2"""
    assert OF_COMMANDS[words] in refused(capsys, *words.split())


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
    make = ["make", "-n", "-o", ".venv/.ready", "DATA=my cohort", "train"]
    line = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    shell = ["sh", "-c", f"printf '%s\\n' {line}"]
    words = subprocess.run(shell, env={"DATA": "my cohort"}, capture_output=True, text=True)
    assert "data.root='my cohort'" in words.stdout.splitlines()
