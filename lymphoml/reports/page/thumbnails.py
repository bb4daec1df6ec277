"""Embed small pictures of chosen cells in the page."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.cache import content_key, hash_images
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.decoding import ImageProblem, open_rgb
from lymphoml.data.settings import DataConfig
from lymphoml.reports.format import format_setting
from lymphoml.reports.run_labels import flatten
from lymphoml.runs.finished_run import Run
from lymphoml.runs.provenance import data_fingerprint

MARKUP = 200  # characters around a picture
QUALITIES = ((112, 70), (72, 70), (56, 60), (40, 50), (28, 40))  # pixels a side, quality of WebP
CENTRE = 128  # pixels of the original about its centre, where the cell is
MOST_PIXELS = 1 << 20  # a side, more than any image has
MISSING = "an image has been removed from the cohort since training"


def thumbnails(
    run: Run, wanted: Mapping[str, Sequence[str]], room: int, whole: bool = False
) -> dict[tuple[str, str], str]:
    """A data URI a wanted image, of its centre or `whole` as the network saw it.

    Raises InputError for the page: no path, patient or file.
    """
    cohort = _cohort(run)
    paths = {(patient, path.name): path for patient in wanted for path in cohort.images[patient]}
    keys = [(patient, image) for patient, images in wanted.items() for image in images]
    if not paths.keys() >= set(keys):
        raise InputError(MISSING)
    largest = MOST_PIXELS if whole else CENTRE
    width = min(largest, run.config["data"].get("crop") or largest)
    centres = {key: _centre(paths[key], width) for key in keys}
    for side, quality in QUALITIES:
        pictures = {key: encode(image, side, quality) for key, image in centres.items()}
        if sum(len(picture) + MARKUP for picture in pictures.values()) <= room:
            return pictures
    raise InputError(f"{len(keys)} pictures do not fit on a page")


def _cohort(run: Run) -> Cohort:
    data = run.config["data"]
    if "root" not in data:
        raise InputError("the run does not record where its cohort is; give data.root=DIR")
    root = format_setting(data["root"])
    try:
        cohort = load_cohort(DataConfig.read(data))
    except InputError as error:
        raise InputError(
            f"the cohort cannot be read at data.root={root} ({len(error.problems)} problems); run "
            f"the command in the folder where train.py ran"
        ) from None
    table, images, *_ = [*data_fingerprint(run.environment).split("-"), ""]
    same = table[:16] == cohort.labelled.fingerprint()[:16]
    takes_features = flatten(run.config).get("model.encoder") == "FeatureEncoder"
    from_file = takes_features and not (data.get("features") or {}).get("blocks")
    if same and images and not from_file:  # else the digest is of the user's feature file
        same = content_key(hash_images(cohort.labelled.images)).startswith(images)
    if not same:
        raise InputError(f"the cohort at data.root={root} is not the one the run was trained on")
    return cohort


def _centre(path: Path, width: int) -> Image.Image:
    try:
        image = open_rgb(read_bytes(path)).image
    except FileNotFoundError:
        raise InputError(MISSING) from None
    except OSError:
        raise InputError("an image cannot be read; run the audit") from None
    except ImageProblem:
        raise InputError("an image cannot be decoded; run the audit") from None
    width = min(width, *image.size)
    left, top = (image.width - width) // 2, (image.height - width) // 2
    return image.crop((left, top, left + width, top + width))


def encode(image: Image.Image, side: int, quality: int) -> str:
    """Return a data URI of a small WebP, `side` pixels wide and high."""
    content = BytesIO()
    small = image.resize((side, side), Image.Resampling.LANCZOS)
    small.save(content, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
