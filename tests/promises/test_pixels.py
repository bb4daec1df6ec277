"""What is done to pixels"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphoml.cli.main import main
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import predict, refusal

FEATURES = ["model/encoder=identity", "data/features=morphology"]
BLIND = ["model/fusion=clinical"]
SETTINGS = [
    "data.augment.stain_jitter=0.1",
    "data.augment.scale=0.1",
    "data.eval_tta=8",
    "data.stain_norm=reinhard",
]
WRONG = ["data.augment.stain_jitter=1", "data.augment.scale=-0.1", "data.eval_tta=4", "data.stain_norm=vahadane",
         "data.augment.rotate=sometimes"]  # fmt: skip


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """Large enough to show both stains."""
    folder = tmp_path_factory.mktemp("smears") / "cohort"
    synthesize(folder, patients=15, test_patients=2, images=(3, 4), size=112, seed=1)
    return folder


@pytest.mark.promise(
    "a setting of pixels where the model looks at none, or a value that means nothing",
    "one line, exit code 2, no folder",
)
def test_settings_that_would_change_nothing_are_refused(
    configured, tmp_path, capsys, record_property
):
    tried = [[setting, *blind] for setting in SETTINGS for blind in (FEATURES, BLIND)]
    tried += [[wrong] for wrong in WRONG]
    record_property("tried", len(tried))
    for words in tried:
        code, lines = refusal(capsys, configured(*words), tmp_path / "run")
        assert code == 2
        assert len(lines) == 1
        assert words[0].partition("=")[0] in lines[0]
        assert not (tmp_path / "run").exists()


def turn_every_image(cohort: Path) -> None:
    for path in cohort.rglob("*.jpg"):
        with Image.open(path) as image:
            dihedral = image.transpose(Image.Transpose.ROTATE_90)
        dihedral.save(path.with_suffix(".png"))
        path.unlink()


def lossless(cohort: Path) -> None:
    for path in cohort.rglob("*.jpg"):
        with Image.open(path) as image:
            image.save(path.with_suffix(".png"))
        path.unlink()


@pytest.mark.promise(
    "every image of a cohort lies dihedral by a right angle", "data.eval_tta=8 predicts the same"
)
def test_turned_images_are_predicted_alike(tmp_path, configured, record_property):
    drawn, dihedral = tmp_path / "drawn", tmp_path / "dihedral"
    synthesize(drawn, patients=15, test_patients=8, images=(2, 4), size=32, seed=3)
    shutil.copytree(drawn, dihedral)
    turn_every_image(dihedral)
    lossless(drawn)
    png = f"data.root={drawn}", "data.image_pattern=*.png"
    found = {}
    for tta in (1, 8):
        run = tmp_path / f"run-{tta}"
        words = f"data.eval_tta={tta}", "model/fusion=none", "trainer.precision=32-true", "lr=1e-2"
        config = configured(*png, *words)
        cross_validate(config, run)
        found[tta] = []
        for root in (drawn, dihedral):
            config["data"]["root"] = str(root)
            predict(config, run)
            table = pd.read_csv(run / "test" / "predictions.csv")
            found[tta].append(table["probability"].to_numpy())
            shutil.rmtree(run / "test")
    record_property("tried", len(found[8][0]))
    np.testing.assert_allclose(*found[8], atol=1e-5)
    assert np.abs(found[1][0] - found[1][1]).max() > 1e-4  # without it they differ


@pytest.mark.promise(
    "another patient comes, goes or is stained otherwise, with data.stain_norm",
    "nobody else's pixels change",
)
@pytest.mark.parametrize("name", ["reinhard", "macenko"])
def test_a_patients_stain_depends_on_their_own_images_alone(smears, tmp_path, name):
    bags = sorted((smears / "trainset").glob("P*"))[:4]
    images = {bag.name: tuple(sorted(bag.iterdir())) for bag in bags}
    first, *_ = images
    changed = tmp_path / "changed.png"
    Image.fromarray(np.asarray(Image.open(images[first][0])) // 2).save(changed)
    cache, other = str(tmp_path / "cache"), str(tmp_path / "other")
    stain = Preprocessing(None, None, name)
    together, _ = read_images(images, stain, cache)
    apart, _ = read_images({**images, first: (changed, *images[first][1:])}, stain, other)
    plain, _ = read_images(images, Preprocessing(None, None), cache)
    assert not np.array_equal(together.bag(first)[1:], apart.bag(first)[1:])
    for patient in images:
        assert not np.array_equal(together.bag(patient), plain.bag(patient))
        if patient != first:
            assert np.array_equal(together.bag(patient), apart.bag(patient))


@pytest.mark.promise(
    "data.stain_norm for features that are measured on images as they lie in their files",
    "one line; nothing is measured",
)
@pytest.mark.parametrize("encoder", ["morphology", "random_resnet18"])
def test_features_do_not_pass_over_a_setting(smears, tmp_path, capsys, encoder):
    with pytest.raises(SystemExit) as left:
        main(["features", "cohort=synthetic", f"data.root={smears}", f"encoder={encoder}",
              f"data.cache={tmp_path / 'cache'}", "data.stain_norm=reinhard"])  # fmt: skip
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"data.stain_norm=reinhard: encoder={encoder} takes images as they lie" in line
    assert not (tmp_path / "cache").exists()


@pytest.mark.promise(
    "a patient whose images show no stain, with data.stain_norm",
    "one line that names the patient, exit code 2; the others' images stay decoded",
)
@pytest.mark.parametrize("name", ["reinhard", "macenko"])
def test_images_without_stain_are_named(smears, configured, tmp_path, capsys, name):
    shutil.copytree(smears, tmp_path / "cohort")
    blank = sorted((tmp_path / "cohort" / "trainset").glob("P*"))[0]
    for path in blank.iterdir():
        Image.new("RGB", (112, 112), (240, 240, 240)).save(path)
    config = configured(f"data.root={tmp_path / 'cohort'}", f"data.stain_norm={name}")
    code, lines = refusal(capsys, config, tmp_path / "run")
    assert code == 2
    assert len(lines) == 1
    assert f"patient {blank.name}: " in lines[0]
    assert not (tmp_path / "run").exists()
    parts = list((tmp_path / "cache" / "images").glob(f"*stain={name}*/*.npy"))
    assert len(parts) == 14


@pytest.mark.promise(
    "training with stain jitter, any angle and zoom is done twice", "the same bytes"
)
def test_drawn_stains_are_a_function_of_their_keys(cohort, configured, tmp_path):
    words = [
        "fold=0",
        "data.augment.stain_jitter=0.2",
        "data.augment.scale=0.2",
        "data.augment.rotate=any",
        "trainer.max_epochs=1",
    ]
    for name in ("a", "b"):
        cross_validate(configured(*words), tmp_path / name)
    cross_validate(configured(*words[:1], *words[2:]), tmp_path / "unstained")
    one, other, unstained = (
        (tmp_path / name / "fold-0" / "predictions.csv").read_bytes()
        for name in ("a", "b", "unstained")
    )
    assert one == other != unstained
