"""Small pictures of chosen cells, held in the page itself."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.cache import content_key, hash_images
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.decoding import ImageProblem, Preprocessing, open_rgb
from lymphoml.reports.page.wording import shown
from lymphoml.runs.finished_run import Run
from lymphoml.runs.provenance import data_fingerprints

MARKUP = 200  # characters about a picture
QUALITIES = ((112, 70), (72, 70), (56, 60), (40, 50), (28, 40))  # pixels a side and WebP's quality
LEFT = "an image has left the cohort since the run was trained"
FIELD = 128  # pixels of the original about its centre, where the cell lies


def thumbnails(
    run: Run, wanted: Mapping[str, Sequence[str]], room: int
) -> dict[tuple[str, str], str]:
    """A data URI for each patient's image named in `wanted`: its centre at 112 pixels.

    The centre is as wide as the run's own crop, and at most 128 pixels. More pictures than `room`
    characters hold are made smaller. Raises InputError where the cohort in the run's configuration
    is not there, is another than the run's, or lacks an image; what it says stands on the page, and
    names no path, patient or file.
    """
    cohort = _cohort(run)
    paths = {
        (patient, path.name): path
        for patient, images in wanted.items()
        for path in cohort.images[patient]
        if path.name in set(images)
    }
    for patient, images in wanted.items():
        for image in images:
            if (patient, image) not in paths:
                raise InputError(LEFT)
    width = min(FIELD, run.config["data"].get("crop") or FIELD)
    fields = {key: _field(path, width) for key, path in paths.items()}
    pictures: dict[tuple[str, str], str] = {}
    for side, quality in QUALITIES:
        pictures = {key: _encoded(image, side, quality) for key, image in fields.items()}
        if sum(len(picture) + MARKUP for picture in pictures.values()) <= room:
            return pictures
    raise InputError(f"{len(pictures)} pictures are more than a page can hold")


def _cohort(run: Run) -> Cohort:
    data = run.config["data"]
    if "root" not in data:
        raise InputError("a run does not tell where its cohort lies; give data.root=DIR")
    place = shown(data["root"])
    try:
        cohort = load_cohort(data)
    except InputError as error:
        raise InputError(
            f"the cohort cannot be read at data.root={place} ({len(error.problems)} problems); run "
            f"the command from where train.py was run"
        ) from None
    except KeyError as error:
        raise InputError(f"the run's configuration has no data.{error.args[0]}") from None
    table, _, images = data_fingerprints(run.environment)[-1].partition("-")
    own = table[:16] == cohort.labelled.fingerprint()[:16]
    rows = (run.config["model"].get("encoder") or {}).get("rows")
    if own and images and rows != "file":  # else the digest is of the user's rows
        own = content_key(hash_images(cohort.labelled.images)).startswith(images)
    if not own:
        raise InputError(f"the cohort at data.root={place} is not the one the run was trained on")
    return cohort


def _field(path: Path, width: int) -> Image.Image:
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise InputError(LEFT) from None
    except OSError:
        raise InputError("an image cannot be read; run the audit") from None
    opened = open_rgb(content, Preprocessing(None, None))
    if isinstance(opened, ImageProblem):
        raise InputError("an image cannot be decoded; run the audit")
    image = opened.image
    width = min(width, *image.size)
    left, top = (image.width - width) // 2, (image.height - width) // 2
    return image.crop((left, top, left + width, top + width))


def _encoded(image: Image.Image, side: int, quality: int) -> str:
    content = BytesIO()
    small = image.resize((side, side), Image.Resampling.LANCZOS)
    small.save(content, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
