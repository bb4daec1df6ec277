import json
import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lymphoml.cli.config import data_config, pretrain_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images
from lymphoml.features.pretraining.objective import (
    affine,
    draw_views,
    jitter_colours,
    simclr,
    vicreg,
)
from lymphoml.features.pretraining.settings import trainable
from lymphoml.features.pretraining.train import Cells, EpochBatches, PretrainingModule
from tests.promises.jobs import last_of_each_key

TINY = ["encoder=resnet10_quarter", "pretrain.crop=null", "pretrain.resize=null",
        "pretrain.batch_size=16", "pretrain.encoder.width=4", "trainer.num_threads=1"]  # fmt: skip


@pytest.fixture
def pretrain(cohort, tmp_path):
    """The bytes of the encoder that a command's words make, each time of an empty cache."""

    def make(*words, cache="cache"):
        out = tmp_path / cache / "encoder.safetensors"
        places = [f"data.root={cohort}", f"data.cache={tmp_path / cache}", f"out={out}"]
        main(["pretrain", *last_of_each_key(["cohort=synthetic", *places, *TINY, *words])])
        return out.read_bytes()

    return make


@pytest.mark.parametrize("method", ["simclr", pytest.param("vicreg", marks=pytest.mark.slow)])
def test_each_method_lowers_its_loss_and_equal_seeds_give_equal_bytes(pretrain, tmp_path, method):
    words = [f"method={method}", "pretrain.epochs=6"]
    first = pretrain(*words, cache="one")
    (record,) = (tmp_path / "one").glob("pretrained/*/pretrained.json")
    losses = json.loads(record.read_text())["losses"]
    assert losses[-1] < 0.99 * losses[0]
    assert pretrain(*words, cache="other") == first
    assert pretrain(*words, "pretrain.seed=1", cache="seed") != first


def test_images_too_small_are_refused_before_the_first_step(pretrain, capsys):
    with pytest.raises(SystemExit):
        pretrain("pretrain.crop=1")
    error = capsys.readouterr().err
    assert "pretrain.encoder=" in error
    assert "does not accept images of 1 x 1 pixels" in error
    assert "Set pretrain.crop or pretrain.resize" in error


def test_a_second_call_trains_nothing(pretrain, monkeypatch):
    first = pretrain("pretrain.epochs=1")
    monkeypatch.setattr(PretrainingModule, "training_step", lambda *_: pytest.fail("trained"))
    assert pretrain("pretrain.epochs=1") == first


def test_the_rate_rises_for_a_tenth_and_falls_to_nothing(pretrain, monkeypatch):
    rates = []

    def recorded(module, images, batch_idx):
        rates.append(module.optimizers().param_groups[0]["lr"])
        return real(module, images, batch_idx)

    real = PretrainingModule.training_step
    monkeypatch.setattr(PretrainingModule, "training_step", recorded)
    pretrain("pretrain.epochs=4", "pretrain.lr=1e-3", "pretrain.batch_size=4")
    assert rates[0] == pytest.approx(1e-3 / 25)
    top = int(np.argmax(rates))
    assert 0.05 < top / len(rates) < 0.15
    assert max(rates) == pytest.approx(1e-3, rel=0.02)
    assert (np.diff(rates[top:]) < 0).all()
    assert rates[-1] < 1e-5


def test_cells_are_the_images_in_their_order_and_an_epoch_shows_each_once(cohort, tmp_path):
    data = data_config("synthetic", {"root": str(cohort), "cache": str(tmp_path)})
    images = load_cohort(data).labelled.images
    store, _ = read_images(images, Preprocessing.of(data), data.cache)
    cells = Cells(store)
    every = torch.from_numpy(np.concatenate([store.bag(each) for each in images]))
    expected = every.permute(0, 3, 1, 2)
    numbers = np.random.default_rng(0).permutation(len(cells))
    assert torch.equal(cells[numbers], expected[numbers])
    sampler = EpochBatches(len(cells), 16, seed=0)
    epochs = []
    for epoch in (0, 1, 1):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [16] * (len(cells) // 16)
        epochs.append(np.concatenate(batches).tolist())
    assert epochs[0] != epochs[1] == epochs[2]
    assert len(set(epochs[0])) == len(epochs[0])


@pytest.mark.parametrize(("key", "value", "allowed"), [
    ("method", "dino", "be one of simclr, vicreg"),
    ("epochs", 0, "be >= 1"),
    ("batch_size", 1, "be >= 2"),
    ("zoom", 0.0, "be > 0"),
    ("shift", 1.0, "be < 1"),
    ("lr", 0.0, "be > 0"),
    ("stain_norm", "none", "be one of reinhard, macenko"),
    ("loss", {"margin": 1.0}, "have"),
    ("loss", {"temperature": 0.0}, "have"),
])  # fmt: skip
def test_what_means_nothing_is_refused_by_name(key, value, allowed):
    with pytest.raises(InputError, match=rf"pretrain\.{key}=.*must {allowed}"):
        pretrain_config("simclr", "resnet18", {key: value}, {})


def test_statistics_that_a_model_freezes_are_learned_beforehand():
    given = {"_target_": "x", "norm": "frozen", "weights": "pretrained", "trainable": False}
    assert trainable(given) == {"_target_": "x", "norm": "batch"}
    assert trainable(given | {"norm": "group"}) == {"_target_": "x", "norm": "group"}


@pytest.mark.parametrize(("words", "said"), [
    (["method=dino"], "method=dino: must be one of"),
    (["encoder=resnet19"], "encoder=resnet19: must be one of"),
    (["encoder=identity"], "takes images"),
    (["pretrain.epoch=3"], "epoch"),
    (["data.crop=64"], r"data\.crop: what the encoder sees is pretrain\.crop here"),
    (["data.normalize_images=false", "data.stain_norm=null"], "pretrain.normalize.*, pretrain.st"),
    (["out=rows.npz"], r"ends in \.safetensors"),
    (["pretrain.crop=64"], "smaller than"),
    (["trainer.precision=64-true"], "trainer.precision=64-true: must be"),
])  # fmt: skip
def test_the_command_refuses_in_a_line(pretrain, words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        pretrain(*words)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert re.search(said, lines[0])


# Each method against its equation


def test_simclr_is_equation_1():
    torch.manual_seed(0)
    projected = torch.randn(10, 128)
    cosines = F.cosine_similarity(projected[:, None], projected[None], dim=2) / 0.2
    expected = 0.0
    for row in range(10):
        others = [cosines[row, column] for column in range(10) if column != row]
        expected -= cosines[row, (row + 5) % 10] - torch.stack(others).logsumexp(0)
    found = simclr(*projected.chunk(2), temperature=0.2)
    assert found == pytest.approx(float(expected) / 10, rel=1e-5)


def test_vicreg_is_equation_6():
    torch.manual_seed(0)
    one, other = torch.randn(12, 5), 0.3 * torch.randn(12, 5)

    def variance(batch):
        return torch.relu(1 - (batch.var(0) + 1e-4).sqrt()).mean()

    def covariance(batch):
        centred = batch - batch.mean(0)
        squares = (centred.T @ centred / 11).square()
        return (squares.sum() - squares.diagonal().sum()) / 5

    expected = (
        2.0 * (one - other).square().mean()
        + 3.0 * (variance(one) + variance(other)) / 2
        + 5.0 * (covariance(one) + covariance(other))
    )
    assert vicreg(one, other, 2.0, 3.0, 5.0) == pytest.approx(float(expected), rel=1e-4)


# Two views of a cell

SETTINGS, _ = pretrain_config("simclr", "resnet10_quarter", {}, {})


def test_views_turn_by_any_angle_mirror_zoom_and_shift_within_bounds():
    torch.manual_seed(0)
    places = affine(4000, zoom=0.65, shift=0.1)
    sides = torch.linalg.det(places[:, :, :2]).abs().sqrt()
    assert 0.65 <= sides.min() < 0.66
    assert 0.99 < sides.max() <= 1
    assert 0.45 < (torch.linalg.det(places[:, :, :2]) < 0).float().mean() < 0.55
    angles = torch.atan2(-places[:, 0, 1], places[:, 1, 1])
    assert torch.histc(angles, 8, -math.pi, math.pi).min() > 400
    assert 0.099 < places[:, :, 2].abs().max() <= 0.1
    # No shear: rows are orthogonal and of one length.
    products = places[:, :, :2] @ places[:, :, :2].transpose(1, 2)
    assert torch.allclose(products, sides[:, None, None] ** 2 * torch.eye(2), atol=1e-5)


def test_colours_and_contrast_change_by_no_more_than_asked():
    torch.manual_seed(0)
    grey = torch.full((500, 3, 4, 4), 0.5)
    level = (jitter_colours(grey, 0.1) - grey).mean((2, 3))
    assert 0.049 < level.abs().max() <= 0.0501
    assert level.std(1).min() > 0  # each colour its own
    images = torch.rand(500, 3, 4, 4)
    ratio = jitter_colours(images, 0.1).std((2, 3)) / images.std((2, 3))
    assert 0.899 < ratio.min() < 0.91
    assert 1.09 < ratio.max() < 1.101


@pytest.mark.parametrize("normalised", [False, True])
def test_two_views_of_a_cell_differ_and_a_seed_repeats_them(normalised):
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    settings = SETTINGS.replace({"normalize_images": normalised})
    torch.manual_seed(1)
    one, other = draw_views(images, settings), draw_views(images, settings)
    torch.manual_seed(1)
    assert torch.equal(draw_views(images, settings), one)
    assert not torch.allclose(one, other, atol=0.01)
    assert (one.min() < -0.5) == normalised
