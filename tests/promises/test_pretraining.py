"""Pretraining of encoders, without labels."""

import contextlib
import json
import os
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from lymphoml.cli.config import validate
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256
from lymphoml.data.cohort import load_cohort
from lymphoml.data.folds import make_folds, split
from lymphoml.features.pretraining.module import PretrainingModule
from lymphoml.features.pretraining.settings import resolve_pretraining
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.encoders import RunEncoders
from lymphoml.runs.naming import leaves
from lymphoml.training.checkpoint import load_checkpoint
from tests.promises.jobs import ROOT, outcome, predict, refusal
from tests.promises.processes import end, start, wait_until

COMMAND = ["pretrain.crop=null", "pretrain.resize=null", "pretrain.batch_size=8",
           "pretrain.encoder.width=2", "pretrain.epochs=3", "trainer.num_threads=1"]  # fmt: skip
USED = [each for each in COMMAND if not each.startswith("trainer")]
RUN = ["data=synthetic", "logger=none", "data.folds=2", "trainer.max_epochs=2",
       "trainer.enable_progress_bar=false", "trainer.num_threads=1", "data.image_baselines=[]",
       *USED]  # fmt: skip
FEATURES = ["experiment=trained_linear", "data.features.blocks=[morphology,pretrained]"]
WEIGHTS = ["model/encoder=resnet10_half", "model.encoder.width=2", "model.encoder.norm=batch",
           "model.encoder.weights=pretrained"]  # fmt: skip


class Stopped(Exception):
    pass


@pytest.fixture
def configured(cohort, tmp_path):
    def compose_with(*words):
        places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return validate(compose("train", overrides=[*RUN, *places, *words]))

    return compose_with


@pytest.fixture
def encoder(cohort, tmp_path):
    """The bytes of the encoder that the command makes."""

    def make(cache="cache", root=cohort, *words):
        out = tmp_path / cache / "out.safetensors"
        main(["pretrain", "cohort=synthetic", f"data.root={root}", f"data.cache={tmp_path / cache}",
              f"out={out}", *COMMAND, *words])  # fmt: skip
        return out.read_bytes()

    return make


@pytest.fixture
def copied(cohort, tmp_path):
    shutil.copytree(cohort, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def encoders(configured, tmp_path):
    """Those of each fold of a run that pretrains without the patients it holds out."""

    def of(folds, *words):
        config = resolve_pretraining(configured(*WEIGHTS, *words))
        cohort = load_cohort(config.data).labelled
        return RunEncoders(config, cohort, folds, tmp_path / "no-run")

    return of


@pytest.mark.promise("pretraining stopped in any epoch", "the same command ends in the same bytes")
@pytest.mark.parametrize("epoch", [1, 2])
def test_interrupted_pretraining_ends_in_the_same_bytes(epoch, encoder, monkeypatch, tmp_path):
    def stopped(module):
        if module.current_epoch == epoch:
            raise Stopped
        real(module)

    whole, real = encoder("whole"), PretrainingModule.on_train_epoch_start
    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "on_train_epoch_start", stopped)
        with pytest.raises(Stopped):
            encoder("stopped")
    kept = list(tmp_path.glob("stopped/pretrained/*/last.ckpt"))
    assert kept
    assert encoder("stopped") == whole
    assert not list(tmp_path.glob("stopped/pretrained/*/*.ckpt*"))


@pytest.mark.promise(
    "`kill -9`, SIGTERM while an encoder is pretrained", "the same command ends in the same bytes"
)
@pytest.mark.parametrize("how", ["KILL", pytest.param("TERM", marks=pytest.mark.slow)])
def test_killed_pretraining_ends_in_the_same_bytes(how, encoder, cohort, tmp_path):
    whole = encoder("whole")
    words = ["-m", "lymphoml", "pretrain", "cohort=synthetic", f"data.root={cohort}",
             "out=out.safetensors", *COMMAND]  # fmt: skip
    process = start(*words, cwd=tmp_path)
    try:
        wait_until(lambda: list(tmp_path.glob(".cache/pretrained/*/last.ckpt")))
        os.kill(process.pid, getattr(signal, f"SIG{how}"))
        assert process.wait(10) == {"KILL": -9, "TERM": 143}[how]
    finally:
        end(process)
    again = start(*words, cwd=tmp_path)
    assert again.communicate()[1] == ""
    assert (tmp_path / "out.safetensors").read_bytes() == whole


@pytest.mark.promise(
    "a checkpoint of pretraining, or a pretrained encoder in the cache, is corrupt",
    "a line names the file; the encoder made again has the same bytes",
)
@pytest.mark.parametrize(
    "name", ["last.ckpt", "last.ckpt and previous.ckpt", "encoder.safetensors"]
)
def test_damage_costs_time_alone(name, encoder, monkeypatch, tmp_path, capsys):
    def stopped(module):
        if module.current_epoch == 2 and name != "encoder.safetensors":
            raise Stopped
        real(module)

    whole, real = encoder("whole"), PretrainingModule.on_train_epoch_start
    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "on_train_epoch_start", stopped)
        with contextlib.suppress(Stopped):
            encoder("other")
    for each in name.split(" and "):
        (path,) = tmp_path.glob(f"other/pretrained/*/{each}")
        path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    assert encoder("other") == whole
    printed = capsys.readouterr().out
    assert ("last.ckpt is corrupt" in printed) == ("ckpt" in name)
    assert ("pretraining resumes from" in printed) == (name == "last.ckpt")


@pytest.mark.promise("labels are permuted before pretraining", "the encoder keeps its bytes")
def test_no_label_is_read(encoder, cohort, copied):
    path = copied / "trainset" / "trainset_true.csv"
    table = pd.read_csv(path, dtype=str)
    before = table["LABEL"].to_list()
    table["LABEL"] = np.random.default_rng(0).permutation(table["LABEL"])
    table.to_csv(path, index=False)
    assert table["LABEL"].to_list() != before
    assert encoder("one", cohort) == encoder("other", copied)


@pytest.mark.promise(
    "a fold's held-out images are changed or corrupt, and its encoder is pretrained",
    "the fold's encoder keeps its bytes: held-out images are never opened",
)
@pytest.mark.parametrize("change", ["no image", "another image"])
def test_a_fold_never_opens_its_validation_patients(change, encoders, copied, tmp_path):
    config_words = [f"data.root={copied}"]
    everyone = load_cohort(encoders(None, *config_words).config.data)
    folds = make_folds(everyone.labelled.table, 2, 1, 0)
    before = encoders(folds, *config_words).get(0).path.read_bytes()
    training, held_out = split(folds, 0, 2)
    donor = everyone.images[training[0]][0].read_bytes()
    for patient in held_out:
        for path in everyone.images[patient]:
            path.write_bytes(donor if change == "another image" else b"no image")
    words = [*config_words, f"data.cache={tmp_path / 'fresh'}"]
    assert encoders(folds, *words).get(0).path.read_bytes() == before
    # An image of a training patient changes the encoder.
    for path in everyone.images[training[1]]:
        path.write_bytes(donor)
    assert encoders(folds, *words).get(0).path.read_bytes() != before


@pytest.mark.promise(
    "a run's encoder starts from a pretrained encoder's file",
    "metrics.json names the file and its digest; another colour normalization is refused",
)
def test_a_file_begins_an_encoder_that_stays_as_it_is(configured, encoder, cohort, tmp_path):
    encoder("cache", cohort, "pretrain.stain_norm=reinhard")
    file = tmp_path / "cache" / "out.safetensors"
    words = ["model/encoder=resnet10_half", "model.encoder.width=2", "model.encoder.norm=frozen",
             "+model.encoder.trainable=false", f"model.encoder.weights={file}",
             "data.normalize_images=true"]  # fmt: skip
    cross_validate(configured(*words, "data.stain_norm=reinhard"), tmp_path / "run")
    used = json.loads((tmp_path / "run" / "metrics.json").read_text())["encoder_weights"]
    assert used == {"file": file.name, "sha256": sha256(file)}
    learned = load_checkpoint(tmp_path / "run" / "fold-0" / "last.ckpt")["state_dict"]
    for name, tensor in load_file(file).items():
        if "num_batches" not in name:
            assert torch.equal(learned[f"model.encoder.{name}"], tensor)
    with pytest.raises(InputError, match=r"with data\.stain_norm=reinhard"):
        cross_validate(configured(*words), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.promise(
    "a run on pretrained features predicts without a cache",
    "it uses the encoder in its folder; a missing, corrupt or other encoder is refused",
)
def test_a_run_carries_its_encoder(configured, tmp_path, capsys):
    run = tmp_path / "run"
    words = [*FEATURES, "trainer.max_epochs=1"]
    cross_validate(configured(*words), run)
    predict(configured(*words), run)
    first = (run / "test" / "predictions.csv").read_bytes()
    elsewhere = f"data.cache={tmp_path / 'elsewhere'}"
    predict(configured(*words, elsewhere), run)
    assert (run / "test" / "predictions.csv").read_bytes() == first
    assert not list((tmp_path / "elsewhere").glob("pretrained/*"))

    place = run / "fold-1"
    other = tmp_path / "other"
    cross_validate(configured(*words, "pretrain.seed=1"), other)
    source = other / "fold-1"
    for name in ("encoder.safetensors", "pretrained.json"):
        shutil.copy(source / name, place / name)
    assert _refused(configured, run, capsys) == "its features differ from those"
    (place / "pretrained.json").unlink()
    assert _refused(configured, run, capsys) == "is missing or corrupt"


def test_folds_whose_encoders_look_differently_do_not_predict_together(
    configured, tmp_path, capsys
):
    run, words = tmp_path / "run", [*FEATURES, "trainer.max_epochs=1"]
    cross_validate(configured(*words, "fold=0"), run)
    drifted = ["pretrain.normalize_images=false", "resume.allow_changes=true"]
    cross_validate(configured(*words, "fold=1", *drifted), run)
    assert "pretrain.normalize_images changed while it was trained" in _refused(
        configured, run, capsys
    )


def _refused(configured, run, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        predict(configured(), run)
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2
    known = ("its features differ from those", "is missing or corrupt")
    return next((words for words in known if words in line), line)


@pytest.mark.promise(
    "a run that pretrains is interrupted, and the cache removed",
    "it resumes with its first encoder, to the same bytes",
)
@pytest.mark.parametrize("words", [FEATURES, WEIGHTS], ids=["features", "weights"])
def test_a_run_goes_on_with_its_encoder(words, configured, tmp_path, monkeypatch):
    words = [*words, "trainer.max_epochs=2"]
    cross_validate(configured(*words), tmp_path / "whole")
    cross_validate(configured(*words, "fold=0"), tmp_path / "parted")
    shutil.rmtree(tmp_path / "cache" / "pretrained")
    real = PretrainingModule.on_fit_start
    made = []
    monkeypatch.setattr(
        PretrainingModule, "on_fit_start", lambda module: made.append(1) or real(module)
    )
    cross_validate(configured(*words), tmp_path / "parted")
    assert len(made) == 1  # that of fold 1
    assert outcome(tmp_path / "parted") == outcome(tmp_path / "whole")


@pytest.mark.promise(
    "settings of pretraining change",
    "refused as another run where they are used, ignored where they are not",
)
def test_pretraining_counts_where_it_is_used(configured, tmp_path, capsys):
    unused = ["model/encoder=resnet10_half", "model.encoder.width=2", "fold=0"]
    cross_validate(configured(*unused), tmp_path / "plain")
    cross_validate(configured(*unused, "pretrain.epochs=5"), tmp_path / "plain")
    assert "pretrain" not in (tmp_path / "plain" / "config.yaml").read_text()
    used = [*WEIGHTS, "fold=0"]
    cross_validate(configured(*used), tmp_path / "used")
    code, lines = refusal(capsys, configured(*used, "pretrain.epochs=5"), tmp_path / "used")
    assert code == 2
    assert "pretrain.epochs was 3 and is 5" in lines[0]


@pytest.mark.parametrize("words", [FEATURES, WEIGHTS], ids=["features", "weights"])
def test_a_stored_encoder_of_other_settings_is_refused(words, configured, tmp_path, capsys):
    run, allowed = tmp_path / "run", "resume.allow_changes=true"
    cross_validate(configured(*words, "fold=0"), run)
    before = (run / "environment.json").read_bytes()
    (run / "fold-1").mkdir()
    for name in ("encoder.safetensors", "pretrained.json"):
        shutil.copy(run / "fold-0" / name, run / "fold-1" / name)
    code, lines = refusal(capsys, configured(*words, "fold=1", "pretrain.epochs=5", allowed), run)
    assert code == 2
    assert "was pretrained with another pretrain.epochs" in lines[0]
    assert (run / "environment.json").read_bytes() == before
    cross_validate(configured(*words, "fold=1"), run)
    assert (run / "metrics.json").exists()


@pytest.mark.promise(
    "a loss of pretraining is NaN or Inf", "one line names epoch and batch; exit code 1"
)
def test_divergence_is_a_line(encoder, cohort, capsys):
    with pytest.raises(SystemExit) as left:
        encoder("cache", cohort, "pretrain.lr=1e30")
    assert left.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: pretraining, epoch 1, batch ")


def test_facts_hold_what_is_pretrained(configured):
    config = resolve_pretraining(configured(*WEIGHTS))
    found = dict(leaves(config.to_dict()))
    assert found["pretrain.encoder.width"] == 2
    assert found["pretrain.crop"] is None
