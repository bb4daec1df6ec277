"""Settings: pixels, augmentation, averaged weights"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import predict, refused, train_ends

slow = pytest.mark.slow
FEATURES = ["model/encoder=identity", "data/features=morphology"]
CLINICAL = ["model/fusion=clinical"]
SETTINGS = ["data.augment.stain_jitter=0.1", "data.augment.scale=0.1", "data.eval_tta=8",
            "data.stain_norm=reinhard"]  # fmt: skip
WRONG = ["data.augment.stain_jitter=1", "data.augment.scale=-0.1", "data.eval_tta=4",
         "data.stain_norm=vahadane", "data.augment.rotate=sometimes",
         "weight_averaging.decay=1.5 weight_averaging=ema",
         "scheduler.warmup_epochs=3 scheduler=cosine_with_warmup"]  # fmt: skip


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """Large enough to show both stains."""
    folder = tmp_path_factory.mktemp("smears") / "cohort"
    synthesize(folder, patients=15, test_patients=2, images=(3, 4), size=112, seed=1)
    return folder


def test_settings_without_effect_are_refused(configured, cohort, tmp_path, capsys):
    """a setting of pixels where the model reads none; data.stain_norm for features, which are
    computed on images as they are; a value of pixels, averaging or warm-up out of its range → one
    line, exit code 2, no folder, nothing computed"""
    for encoder in ("morphology", "random_resnet18"):
        words = ["cohort=synthetic", f"data.root={cohort}", f"data.cache={tmp_path / 'cache'}"]
        words += [f"encoder={encoder}", "data.stain_norm=reinhard"]
        assert "data.stain_norm" in refused(capsys, "features", *words)
    for setting, words in zip(SETTINGS, [FEATURES, CLINICAL] * 2, strict=True):
        (line,) = train_ends(capsys, configured(setting, *words), tmp_path / "run")
        assert setting.partition("=")[0] in line
    for setting in WRONG:
        with pytest.raises(InputError) as caught:
            cross_validate(configured(*setting.split()), tmp_path / "run")
        (line,) = caught.value.problems
        assert setting.partition("=")[0].rpartition(".")[2] in line
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def save_as_png(cohort: Path, turned: bool) -> None:
    for path in cohort.rglob("*.jpg"):
        with Image.open(path) as image:
            image = image.transpose(Image.Transpose.ROTATE_90) if turned else image
            image.save(path.with_suffix(".png"))
        path.unlink()


@slow
def test_turned_images_are_predicted_alike(tmp_path, configured):
    """every image of a cohort is turned by a right angle → data.eval_tta=8 predicts the same"""
    upright, turned = tmp_path / "upright", tmp_path / "turned"
    synthesize(upright, patients=15, test_patients=8, images=(2, 4), size=32, seed=3)
    shutil.copytree(upright, turned)
    save_as_png(turned, turned=True)
    save_as_png(upright, turned=False)
    words = ["data.image_pattern=*.png", "model/fusion=none", "trainer.precision=32-true",
             "lr=1e-2"]  # fmt: skip
    differences = {}
    for tta in (1, 8):
        run, found = tmp_path / f"run-{tta}", []
        cross_validate(configured(f"data.root={upright}", f"data.eval_tta={tta}", *words), run)
        for root in (upright, turned):
            predict(configured(f"data.root={root}"), run)
            (folder,) = run.glob("test*/")  # turned images are another cohort's
            found.append(pd.read_csv(folder / "predictions.csv")["probability"])
            shutil.rmtree(folder)
        differences[tta] = (found[0] - found[1]).abs().max()
    assert differences[8] < 1e-5
    assert differences[1] > 1e-4


@pytest.mark.parametrize("name", ["reinhard", pytest.param("macenko", marks=slow)])
def test_a_patients_stain_is_estimated_on_their_own_images(smears, tmp_path, name):
    """another patient is added, removed or stained otherwise, with data.stain_norm → no other
    patient's pixels change"""
    bags = sorted((smears / "trainset").glob("P*"))[:4]
    images = {bag.name: tuple(sorted(bag.iterdir())) for bag in bags}
    first, *_ = images
    changed = tmp_path / "changed.png"
    Image.fromarray(np.asarray(Image.open(images[first][0])) // 2).save(changed)
    stain, caches = Preprocessing(None, None, name), [str(tmp_path / each) for each in "ab"]
    before, _ = read_images(images, stain, caches[0])
    after, _ = read_images({**images, first: (changed, *images[first][1:])}, stain, caches[1])
    plain, _ = read_images(images, Preprocessing(None, None), caches[0])
    assert not np.array_equal(before.bag(first)[1:], after.bag(first)[1:])
    for patient in images:
        assert not np.array_equal(before.bag(patient), plain.bag(patient))
        if patient != first:
            assert np.array_equal(before.bag(patient), after.bag(patient))


@pytest.mark.parametrize("name", ["reinhard", pytest.param("macenko", marks=slow)])
def test_images_without_stain_are_named(smears, configured, tmp_path, capsys, name):
    """a patient whose images show no stain, with data.stain_norm → one line that names the patient,
    exit code 2; the other patients' images stay decoded"""
    shutil.copytree(smears, tmp_path / "cohort")
    blank = sorted((tmp_path / "cohort" / "trainset").glob("P*"))[0]
    for path in blank.iterdir():
        Image.new("RGB", (112, 112), (240, 240, 240)).save(path)
    config = configured(f"data.root={tmp_path / 'cohort'}", f"data.stain_norm={name}")
    (line,) = train_ends(capsys, config, tmp_path / "run")
    assert f"patient {blank.name}: " in line
    assert not (tmp_path / "run").exists()
    assert len(list((tmp_path / "cache" / "images").glob(f"*stain={name}*/*.npy"))) == 14
