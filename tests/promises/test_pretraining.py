"""Pretraining of encoders, without labels."""

import contextlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import ResNet18_Weights, resnet18

from lymphoml.cli.config import compose_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256
from lymphoml.data.cohort import load_cohort
from lymphoml.data.folds import make_folds, split
from lymphoml.data.transforms import to_unit
from lymphoml.features.pretraining.settings import resolve_pretraining
from lymphoml.features.pretraining.train import PretrainingModule
from lymphoml.models.encoders import resnet10, timm_encoder
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.naming import leaves
from lymphoml.runs.prepare import RunEncoders
from lymphoml.training.checkpoint import load_checkpoint
from tests.features.test_encoder_weights import HALF, OF_TIMM, published
from tests.promises import jobs
from tests.promises.jobs import TABLE, TINY, errors, outcome, predict, refused, train_ends
from tests.reports.fabricate import list_files

slow = pytest.mark.slow
USED = ["pretrain.crop=null", "pretrain.resize=null", "pretrain.batch_size=8",
        "pretrain.encoder.width=2", "pretrain.epochs=3"]  # fmt: skip
RUN = [*TINY, "trainer.max_epochs=1", *USED]
FEATURES = ["experiment=trained_linear", "data.features.blocks=[morphology,pretrained]"]
NETWORK = ["model/encoder=resnet10_half", "model.encoder.width=2"]
WEIGHTS = [*NETWORK, "model.encoder.norm=batch", "model.encoder.weights=pretrained"]
ALLOWED = "resume.allow_changes=true"


class Stopped(Exception):
    pass


@pytest.fixture
def configured(cohort, tmp_path):
    places = [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
    return lambda *words: compose_config(*RUN, *places, *words)


def encoder(cohort, cache, *words):
    """The bytes of the encoder that the command makes."""
    out = cache / "out.safetensors"
    main(["pretrain", "cohort=synthetic", f"data.root={cohort}", f"data.cache={cache}",
          f"out={out}", "trainer.num_threads=1", *USED, *words])  # fmt: skip
    return out.read_bytes()


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    return encoder(cohort, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("stop", "corrupt"), [
    pytest.param(1, [], marks=slow), (2, []), (2, ["last.ckpt"]),
    pytest.param(2, ["last.ckpt", "previous.ckpt"], marks=slow), (None, ["encoder.safetensors"]),
])  # fmt: skip
def test_stopped_or_damaged_pretraining_ends_in_the_same_bytes(
    stop, corrupt, cohort, whole, tmp_path, capsys
):
    """pretraining is stopped in any epoch; its checkpoints, or the encoder in the cache, are
    corrupt → the same command ends in the same bytes, and a line names what is corrupt"""
    real = PretrainingModule.on_train_epoch_start

    def stopped(module):
        if module.current_epoch == stop:
            raise Stopped
        real(module)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Stopped):
        patch.setattr(PretrainingModule, "on_train_epoch_start", stopped)
        encoder(cohort, tmp_path)
    assert bool(list(tmp_path.glob("pretrained/*/last.ckpt"))) == bool(stop)
    for name in corrupt:
        (path,) = tmp_path.glob(f"pretrained/*/{name}")
        path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    assert encoder(cohort, tmp_path) == whole
    assert not list(tmp_path.glob("pretrained/*/*.ckpt*"))
    printed = capsys.readouterr().out
    assert ("last.ckpt is corrupt" in printed) == ("last.ckpt" in corrupt)
    resumes = stop is not None and "previous.ckpt" not in corrupt
    assert ("pretraining resumes from" in printed) == resumes


@slow
def test_killed_pretraining_ends_in_the_same_bytes(cohort, whole, tmp_path, started):
    """`kill -9` while an encoder is pretrained → the same command ends in the same bytes"""
    words = ["-m", "lymphoml", "pretrain", "cohort=synthetic", f"data.root={cohort}",
             "out=out.safetensors", "trainer.num_threads=1", *USED]  # fmt: skip
    process = started(*words, cwd=tmp_path)
    jobs.wait_until(lambda: list(tmp_path.glob(".cache/pretrained/*/last.ckpt")))
    process.kill()
    assert process.wait(10) == -9
    assert started(*words, cwd=tmp_path).communicate()[1] == ""
    assert (tmp_path / "out.safetensors").read_bytes() == whole


def test_no_label_is_read(whole, cohort, tmp_path):
    """labels are permuted before pretraining → the encoder keeps its bytes"""
    shuffled = np.random.default_rng(0).permutation
    other = jobs.edited(cohort, tmp_path / "other", LABEL=lambda table: shuffled(table["LABEL"]))
    before, after = (pd.read_csv(root / TABLE)["LABEL"] for root in (cohort, other))
    assert not after.equals(before)
    assert encoder(other, tmp_path) == whole


def test_a_fold_never_opens_its_validation_patients(configured, cohort, tmp_path):
    """a fold's held-out images are changed or corrupt, and its encoder is pretrained → the fold's
    encoder keeps its bytes: held-out images are never opened"""
    copied = shutil.copytree(cohort, tmp_path / "copy")
    words = [*WEIGHTS, f"data.root={copied}"]
    everyone = load_cohort(configured(*words).data)
    folds = make_folds(everyone.labelled.table, 2, 1, 0)

    def encoder_of_fold(cache):
        config = resolve_pretraining(configured(*words, f"data.cache={tmp_path / cache}"))
        cohort = load_cohort(config.data).labelled
        return RunEncoders(config, cohort, folds, tmp_path / "no-run").get(0).path.read_bytes()

    before = encoder_of_fold("cache")
    training, held_out = split(folds, 0, 2)
    donor = everyone.images[training[0]][0].read_bytes()
    for number, patient in enumerate(held_out):
        for path in everyone.images[patient]:
            path.write_bytes(donor if number % 2 else b"no image")
    assert encoder_of_fold("fresh") == before
    # An image of a training patient changes the encoder.
    for path in everyone.images[training[1]]:
        path.write_bytes(donor)
    assert encoder_of_fold("fresh") != before


@slow
def test_a_file_begins_an_encoder_that_stays_as_it_is(configured, cohort, tmp_path):
    """a run's encoder starts from a pretrained encoder's file → metrics.json names the file and its
    digest; another colour normalization is refused"""
    encoder(cohort, tmp_path / "cache", "pretrain.stain_norm=reinhard")
    file, run = tmp_path / "cache" / "out.safetensors", tmp_path / "run"
    words = [*NETWORK, "model.encoder.norm=frozen", "+model.encoder.trainable=false",
             f"model.encoder.weights={file}", "data.normalize_images=true"]  # fmt: skip
    cross_validate(configured(*words, "data.stain_norm=reinhard"), run)
    used = json.loads((run / "metrics.json").read_text())["encoder_weights"]
    assert used == {"file": file.name, "sha256": sha256(file)}
    learned = load_checkpoint(run / "fold-0" / "last.ckpt")["state_dict"]
    for name, tensor in load_file(file).items():
        if "num_batches" not in name:
            assert torch.equal(learned[f"model.encoder.{name}"], tensor)
    with pytest.raises(InputError, match=r"with data\.stain_norm=reinhard"):
        cross_validate(configured(*words), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def assert_first_features(out, cohort, network, mean_and_deviation=None):
    with np.load(out) as file:
        path = cohort / "trainset" / file["patient"][0] / file["image"][0]
        image = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None]
        unit = to_unit(image)
        if mean_and_deviation:
            unit = (unit - mean_and_deviation) / mean_and_deviation
        with torch.inference_mode():
            expected = network(unit)[0]
        torch.testing.assert_close(torch.from_numpy(file["features"][0]), expected)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_features_are_those_of_the_network_of_the_weights(norm, cohort, tmp_path, capsys):
    """`features` with weights of a network with BatchNorm or GroupNorm, and a classifier → its
    features, and a line with what is dropped; weights of another network are refused"""
    network = resnet10(16, norm=norm).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor + torch.rand(tensor.shape) / 10)
    torch.save(network.state_dict() | {"fc.weight": torch.ones(2, 128)}, tmp_path / "weights.pt")
    words = ["cohort=synthetic", f"data.root={cohort}", f"data.cache={tmp_path}"]
    out, weights = tmp_path / "out.npz", f"weights={tmp_path / 'weights.pt'}"
    main(["features", *words, "encoder=resnet10_quarter", weights, f"out={out}"])
    assert "weights.pt: not part of the encoder, dropped: fc.weight\n" in capsys.readouterr().out
    assert_first_features(out, cohort, network)
    lines = errors(capsys, lambda: main(["features", *words, "encoder=resnet18", weights]))
    assert any("weights.pt has no conv1.weight" in line for line in lines)


def test_released_weights_are_a_features_encoder(cohort, tmp_path, monkeypatch, capsys):
    """`features weights=default` → the released network's features, with its statistics, of images
    normalized by ImageNet's"""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    released = tmp_path / "hub" / "checkpoints" / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    released.parent.mkdir(parents=True)
    torch.save(resnet18().state_dict(), released)
    words = ["cohort=synthetic", f"data.root={cohort}", f"data.cache={tmp_path}"]
    for weights, word in (("default", []), (str(released), ["data.normalize_images=true"])):
        out = tmp_path / f"{weights[-3:]}.npz"
        main(["features", *words, "encoder=resnet18", f"weights={weights}", f"out={out}", *word])
    with np.load(tmp_path / "ult.npz") as default, np.load(tmp_path / "pth.npz") as file:
        assert np.array_equal(default["features"], file["features"])


def test_a_published_encoder_brings_its_preprocessing(configured, cohort, tmp_path, capsys):
    """`features` and training with the folder of an encoder that timm or transformers published →
    its network, mean, deviation and size; the run predicts when the folder is gone"""
    folder = published(
        tmp_path / "net", OF_TIMM | {"pretrained_cfg": HALF | {"input_size": [3, 32, 32]}}
    )
    out, words = tmp_path / "out.npz", [f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
    timm = "vit_small_patch14_dinov2"
    main(["features", "cohort=synthetic", *words, "encoder=timm", f"name={timm}",
          f"weights={folder}", f"out={out}"])  # fmt: skip
    assert "data.normalize_images='{mean:[0.5,0.5,0.5],std:[0.5" in capsys.readouterr().out
    network = timm_encoder(timm, img_size=32, embed_dim=16, depth=1, num_heads=2).eval()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    assert_first_features(out, cohort, network, mean_and_deviation=0.5)

    run = ["model/encoder=timm", f"model.encoder.name={timm}", f"model.encoder.weights={folder}"]
    run += ["model.encoder.norm=batch", "+model.encoder.trainable=false"]
    config, target = configured(*run), tmp_path / "run"
    cross_validate(config, target)
    learned = load_checkpoint(target / "fold-0" / "last.ckpt")["state_dict"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(learned[f"model.encoder.{name}"], tensor)
    with pytest.raises(InputError, match=r"with data\.normalize_images='\{mean"):
        cross_validate(configured(*run, "data.normalize_images=true"), tmp_path / "other")
    shutil.rmtree(folder)
    predict(config, target)
    assert (target / "test" / "predictions.csv").exists()


def copy_encoder(source, target):
    target.mkdir(exist_ok=True)
    for name in ("encoder.safetensors", "pretrained.json"):
        shutil.copy(source / name, target / name)


def test_a_run_carries_its_encoder(configured, cohort, tmp_path, capsys):
    """a run on pretrained features predicts without a cache → it uses the encoder in its folder; a
    missing, corrupt or other encoder is refused"""
    run, other = tmp_path / "run", tmp_path / "other"
    cross_validate(configured(*FEATURES), run)
    predict(configured(*FEATURES), run)
    first = (run / "test" / "predictions.csv").read_bytes()
    predict(configured(*FEATURES, f"data.cache={tmp_path / 'elsewhere'}"), run)
    assert (run / "test" / "predictions.csv").read_bytes() == first
    assert not list((tmp_path / "elsewhere").glob("pretrained/*"))

    command = ["predict", f"run={run}", f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
    cross_validate(configured(*FEATURES, "pretrain.seed=1", "fold=1"), other)
    copy_encoder(other / "fold-1", run / "fold-1")
    list_files(run)
    assert "its features differ from those" in refused(capsys, *command)
    (run / "fold-1" / "pretrained.json").unlink()
    list_files(run)
    assert "is missing or corrupt" in refused(capsys, *command)


@slow
def test_folds_whose_encoders_look_differently_do_not_predict_together(
    configured, cohort, tmp_path, capsys
):
    run = tmp_path / "run"
    cross_validate(configured(*FEATURES, "fold=0"), run)
    changed = ["pretrain.normalize_images=false", ALLOWED]
    cross_validate(configured(*FEATURES, "fold=1", *changed), run)
    line = refused(capsys, "predict", f"run={run}", f"data.root={cohort}")
    assert "pretrain.normalize_images changed while it was trained" in line


@slow
@pytest.mark.parametrize("words", [FEATURES, WEIGHTS], ids=["features", "weights"])
def test_a_run_resumes_with_its_encoder(words, configured, tmp_path, monkeypatch, capsys):
    """a run that pretrains is interrupted, and the cache removed; a stored encoder is of other
    settings → it resumes with its first encoder, to the same bytes; the other encoder is refused"""
    run = tmp_path / "run"
    cross_validate(configured(*words), tmp_path / "whole")
    cross_validate(configured(*words, "fold=0"), run)
    before = (run / "environment.json").read_bytes()
    copy_encoder(run / "fold-0", run / "fold-1")
    other = configured(*words, "fold=1", "pretrain.epochs=5", ALLOWED)
    assert "was pretrained with another pretrain.epochs" in train_ends(capsys, other, run)[0]
    assert (run / "environment.json").read_bytes() == before
    for folder in (run / "fold-1", tmp_path / "cache" / "pretrained"):
        shutil.rmtree(folder)
    real, made = PretrainingModule.on_fit_start, []
    counted = lambda module: made.append(1) or real(module)  # noqa: E731
    monkeypatch.setattr(PretrainingModule, "on_fit_start", counted)
    cross_validate(configured(*words), run)
    assert len(made) == 1  # that of fold 1
    assert outcome(run) == outcome(tmp_path / "whole")


def test_pretraining_counts_where_it_is_used(configured, tmp_path, capsys):
    """settings of pretraining change → refused as another run where they are used, ignored where
    they are not"""
    plain, used = tmp_path / "plain", tmp_path / "used"
    cross_validate(configured(*NETWORK, "fold=0"), plain)
    cross_validate(configured(*NETWORK, "fold=0", "pretrain.epochs=5"), plain)
    assert "pretrain" not in (plain / "config.yaml").read_text()
    cross_validate(configured(*WEIGHTS, "fold=0"), used)
    lines = train_ends(capsys, configured(*WEIGHTS, "fold=0", "pretrain.epochs=5"), used)
    assert "pretrain.epochs was 3 and is 5" in lines[0]
    without = configured(*WEIGHTS).model_copy(update={"pretrain": None})  # as of ~pretrain
    with pytest.raises(InputError, match="pretrain: is missing"):
        resolve_pretraining(without)
    found = dict(leaves(resolve_pretraining(configured(*WEIGHTS)).to_dict()))
    assert (found["pretrain.encoder.width"], found["pretrain.crop"]) == (2, None)


def test_divergence_is_a_line(cohort, tmp_path, capsys):
    """a loss of pretraining is NaN or Inf → one line names epoch and batch; exit code 1"""
    (line,) = errors(capsys, lambda: encoder(cohort, tmp_path, "pretrain.lr=1e30"), code=1)
    assert line.startswith("error: pretraining, epoch 1, batch ")
