import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.cache import content_key, hash_images
from lymphoml.data.cohort import load_cohort
from lymphoml.data.settings import DataConfig
from lymphoml.reports.page import Choices
from lymphoml.reports.page import cells as module
from lymphoml.reports.page.cells import Cells
from lymphoml.reports.page.page import write_report
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import make_run_of

ROOM = 1_000_000  # characters


def pixels(uri):
    head, _, content = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"), float)


def first_of(run):
    patient = run.predictions["patient"].iloc[0]
    return patient, "000000.jpg"


@pytest.fixture
def run(cohort, tmp_path):
    return read_run(make_run_of(cohort, tmp_path / "run"))


def test_a_picture_is_the_patients_own_image(cohort, run):
    wanted = {p: ["000000.jpg", "000001.jpg"] for p in run.predictions["patient"]}
    pictures = Cells(run).thumbnails(wanted, ROOM)
    assert set(pictures) == {(p, image) for p, images in wanted.items() for image in images}
    for (patient, image), uri in pictures.items():
        with Image.open(cohort / "trainset" / patient / image) as opened:
            original = np.asarray(opened.resize((112, 112), Image.Resampling.LANCZOS), float)
        assert pixels(uri).shape == (112, 112, 3)
        nearest = min(pictures, key=lambda key: np.abs(pixels(pictures[key]) - original).mean())
        assert nearest == (patient, image)


def test_a_picture_shows_the_centre_that_the_model_saw(cohort, tmp_path):
    run = read_run(make_run_of(cohort, tmp_path / "run", crop=16))
    patient, image = first_of(run)
    with Image.open(cohort / "trainset" / patient / image) as opened:
        centre = np.asarray(opened.crop((8, 8, 24, 24)).resize((112, 112)), float)
        whole = np.asarray(opened.resize((112, 112)), float)
    drawn = pixels(Cells(run).thumbnails({patient: [image]}, ROOM)[patient, image])
    assert np.abs(drawn - centre).mean() < 0.5 * np.abs(drawn - whole).mean()


def test_more_pictures_than_a_page_holds_are_smaller(run):
    patient, image = first_of(run)
    full = Cells(run).thumbnails({patient: [image]}, ROOM)[patient, image]
    room = len(full) + module.MARKUP
    smaller = Cells(run).thumbnails({patient: [image]}, room - 1)[patient, image]
    assert pixels(smaller).shape == (72, 72, 3)
    with pytest.raises(InputError, match="do not fit"):
        Cells(run).thumbnails({patient: [image]}, 10)


def test_another_cohort_and_other_images_beside_the_same_table_are_refused(cohort, tmp_path):
    shutil.copytree(cohort, tmp_path / "own")
    run = read_run(make_run_of(tmp_path / "own", tmp_path / "run"))
    labelled = load_cohort(DataConfig.read(run.config["data"])).labelled
    digest = content_key(hash_images(labelled.images))[:16]
    patient, image = first_of(run)
    for order in ("", "-0123456789abcdef"):  # of rows, where training follows it
        known = f"{labelled.fingerprint()[:16]}-{digest}{order}"
        run.environment["data_fingerprint"] = known
        assert Cells(run).thumbnails({patient: [image]}, ROOM)
    files = [path for images in labelled.images.values() for path in images]
    files[0].write_bytes(files[-1].read_bytes())
    for environment in (run.environment, {"data_fingerprint": "f" * 32}):
        run.environment.update(environment)
        with pytest.raises(InputError, match="not the one the run was trained on"):
            Cells(run).thumbnails({patient: [image]}, ROOM)


def test_what_is_missing_is_one_line_without_the_machines_path(run, tmp_path):
    with pytest.raises(InputError, match="an image has been removed"):
        Cells(run).thumbnails({first_of(run)[0]: ["999.jpg"]}, ROOM)
    run.config["data"]["root"] = str(tmp_path / "gone")
    with pytest.raises(InputError, match=r"data\.root=\.\.\./gone") as caught:
        Cells(run).thumbnails({}, ROOM)
    assert str(tmp_path) not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_broken_image_is_reported_without_patient_and_file(cohort, tmp_path, monkeypatch):
    shutil.copytree(cohort, tmp_path / "own")
    path = make_run_of(tmp_path / "own", tmp_path / "run")
    patient, image = first_of(read_run(path))
    file, real = tmp_path / "own" / "trainset" / patient / image, module.load_cohort

    def reading(data):  # breaks once the images are listed, before they are opened
        read = real(data)
        file.write_bytes(b"x")
        return read

    monkeypatch.setattr(module, "load_cohort", reading)
    page = write_report(path, tmp_path / "page.html", Choices()).read_text()
    assert "cannot be decoded" in page
    assert not [word for word in (str(tmp_path), patient, image) if word in page]
