"""Small pictures of chosen cells, with what they did to the decision, embedded in the page."""

import base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.cache import content_key, hash_images
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.decoding import ImageProblem, open_rgb
from lymphoml.data.settings import DataConfig
from lymphoml.explain.tables import FOLDER, OF_PIXELS, cell_effects, read_explanations, strongest
from lymphoml.reports.format import format_setting
from lymphoml.reports.page import Choices
from lymphoml.reports.run_labels import flatten
from lymphoml.runs.finished_run import Run
from lymphoml.runs.provenance import data_fingerprint

EXPLAIN = "python -m lymphoml explain run=RUN"
OF_ENSEMBLE = "an ensemble is not explained; see the reports of its members"
MARKUP = 200  # characters around a picture
QUALITIES = ((112, 70), (72, 70), (56, 60), (40, 50), (28, 40))  # pixels a side, quality of WebP
CENTRE = 128  # pixels of the original about its centre, where the cell is
MOST_PIXELS = 1 << 20  # a side, more than any image has
MISSING = "an image has been removed from the cohort since training"


class Cells:
    """A run's explanations and the images that they are of, each read once for a page.

    `found` and `effects` (`cell_effects`) are None where the run is not explained. Raises
    InputError where the explanations are damaged, or of the run as it was.
    """

    def __init__(self, run: Run):
        self.run, self.found = run, read_explanations(run.path)
        self.effects = cell_effects(self.found)

    def draw(
        self, choices: Choices, patients: Sequence[str], room: int, with_maps: bool = False
    ) -> dict[str, dict[str, list[tuple[str, float, dict[str, str]]]]]:
        """Return by patient and end: plain cell, effect and, if asked for, its maps by method.

        The InputError says, for the page, why there are none: it has no path, patient or file.
        """
        config = self.run.config
        if not choices.thumbnails:
            raise InputError("thumbnails=false.")
        if config["data"].get("layout") == "mil_table":
            raise InputError("this cohort has feature vectors, not images.")
        if flatten(config).get("model.fusion") == "ClinicalOnly":
            raise InputError("the model does not use images.")
        if config.get("ensemble"):
            raise InputError(OF_ENSEMBLE)
        if self.effects is None:
            raise InputError(
                f"their effects are not known; give {EXPLAIN}, then this report again."
            )
        ends = {each: strongest_cells(self.effects[each]) for each in patients
                if each in self.effects}  # fmt: skip
        wanted = {patient: [image for pairs in each.values() for image, _ in pairs]
                  for patient, each in ends.items()}  # fmt: skip
        maps = {(patient, image): self._maps(patient, image) if with_maps else {}
                for patient, images in wanted.items() for image in images}  # fmt: skip
        left = room - sum(len(uri) for each in maps.values() for uri in each.values())
        plain = self.thumbnails(wanted, left, whole=any(maps.values()))
        return {
            patient: {
                end: [(plain[patient, image], effect, maps[patient, image])
                      for image, effect in pairs]
                for end, pairs in each.items() if pairs
            }
            for patient, each in ends.items()
        }  # fmt: skip

    def thumbnails(
        self, wanted: Mapping[str, Sequence[str]], room: int, whole: bool = False
    ) -> dict[tuple[str, str], str]:
        """Return a data URI a wanted image, of its centre or `whole` as the network saw it.

        All together take `room` characters at most. Raises InputError.
        """
        images = self.cohort.images
        paths = {(patient, path.name): path for patient in wanted for path in images[patient]}
        keys = [(patient, image) for patient, names in wanted.items() for image in names]
        if not paths.keys() >= set(keys):
            raise InputError(MISSING)
        largest = MOST_PIXELS if whole else CENTRE
        width = min(largest, self.run.config["data"].get("crop") or largest)
        centres = {key: _centre(paths[key], width) for key in keys}
        for side, quality in QUALITIES:
            pictures = {key: _encode(image, side, quality) for key, image in centres.items()}
            if sum(len(picture) + MARKUP for picture in pictures.values()) <= room:
                return pictures
        raise InputError(f"{len(keys)} pictures do not fit on a page")

    @cached_property
    def cohort(self) -> Cohort:
        run, data = self.run, self.run.config["data"]
        if "root" not in data:
            raise InputError("the run does not record where its cohort is; give data.root=DIR")
        root = format_setting(data["root"])
        try:
            cohort = load_cohort(DataConfig.read(data))
        except InputError as error:
            raise InputError(
                f"the cohort cannot be read at data.root={root} ({len(error.problems)} problems); "
                f"run the command in the folder where train.py ran"
            ) from None
        table, images, *_ = [*data_fingerprint(run.environment).split("-"), ""]
        same = table[:16] == cohort.labelled.fingerprint()[:16]
        takes_features = flatten(run.config).get("model.encoder") == "FeatureEncoder"
        from_file = takes_features and not (data.get("features") or {}).get("blocks")
        if same and images and not from_file:  # else the digest is of the user's feature file
            same = content_key(hash_images(cohort.labelled.images)).startswith(images)
        if not same:
            raise InputError(
                f"the cohort at data.root={root} is not the one the run was trained on"
            )
        return cohort

    def _maps(self, patient: str, image: str) -> dict[str, str]:
        """Return a data URI of each picture that `explain` made of an image, by method."""
        found = {}
        for method in OF_PIXELS:
            path = self.run.path / FOLDER / "pictures" / patient / f"{image}.{method}.png"
            if not path.is_file():
                continue
            try:
                found[method] = _encode(open_rgb(read_bytes(path)).image, *QUALITIES[0])
            except (OSError, ImageProblem):
                raise InputError(f"a map of {FOLDER} cannot be read; give explain again") from None
        return found


def strongest_cells(effects: pd.Series) -> dict[str, list[tuple[str, float]]]:
    """Return image and effect of the cells that spoke most for tumoral, and most against it."""
    ends = zip(("for tumoral", "against"), strongest(effects.to_numpy()), strict=True)
    return {
        end: [(str(image), float(effect)) for image, effect in effects.iloc[places].items()]
        for end, places in ends
    }


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


def _encode(image: Image.Image, side: int, quality: int) -> str:
    """Return a data URI of a small WebP, `side` pixels wide and high."""
    content = BytesIO()
    small = image.resize((side, side), Image.Resampling.LANCZOS)
    small.save(content, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
