"""One folder of images per patient: found by exact name, never outside the cohort's root."""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from lymphoml.core.errors import quoted
from lymphoml.core.untrusted import FORMULA, is_safe_text
from lymphoml.data.problems import DataError, Place, Problem

Paths = tuple[Path, ...]


def find_bags(
    folder: Path, root: Path, pattern: str, places: Mapping[str, Place] | None
) -> tuple[dict[str, Paths], list[Problem]]:
    """Return each patient's images and problems; without `places` every folder is a patient's."""
    try:
        check_inside_root(folder, root, Place(folder))
        present = {each.name for each in _visible(folder) if os.path.isdir(each)}
    except OSError as error:
        what = f"no folder of images ({error.strerror})"
        return {}, [Problem(Place(folder), what, "check data.root")] if places is not None else []
    except DataError as error:
        return {}, list(error.found)
    if places is None:
        places = {name: Place(folder / name) for name in sorted(present)}
    bags: dict[str, Paths] = {}
    problems = []
    for name in sorted(present - places.keys()):
        place = Place(folder, f"folder {quoted(name, 99)}")
        problems.append(Problem(place, "no row in the table", "add the patient, or move it away"))
    for patient, place in places.items():
        if patient not in present:
            action = "add it, or remove the row"
            problems.append(Problem(place, "no such folder", action, private=folder))
            continue
        try:
            check_inside_root(folder / patient, root, place)
            bags[patient] = _images(folder / patient, root, pattern, place)
        except DataError as error:
            problems += error.found
    return bags, problems


def _images(bag: Path, root: Path, pattern: str, place: Place) -> Paths:
    try:
        entries = [each for each in _visible(bag) if fnmatchcase(each.name, pattern)]
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise DataError(Problem(place, what, "check its permissions", bag)) from None
    names = []
    for entry in entries:
        path = bag / entry.name
        if entry.is_symlink():
            check_inside_root(path, root, place)
        if pattern == "*" and entry.is_dir():
            continue
        if not entry.is_file():
            raise DataError(Problem(place, "not a file", "put the image there, or remove it", path))
        if not is_safe_text(entry.name):
            action = f"use visible characters, and begin with none of {' '.join(FORMULA)}"
            shown = f"{bag.name}/{quoted(entry.name, 60)}"
            raise DataError(Problem(place, "a file has a refused name", action, shown))
        names.append(entry.name)
    if not names:
        action = "add images, or adapt data.image_pattern"
        raise DataError(Problem(place, f"no image {pattern}", action, bag))
    return tuple(bag / name for name in sorted(names))


def check_inside_root(path: Path, root: Path, place: Place) -> None:
    """Raise DataError for a path that leads out of `root`, by a link or by .. in it."""
    try:
        target = Path(os.path.realpath(path))
        inside = target.is_relative_to(os.path.realpath(root))
    except ValueError:  # NUL in the name
        raise DataError(Problem(place, "no file can have this name", "correct it")) from None
    if not inside:
        what = "a link to a place outside data.root"
        raise DataError(Problem(place, what, "put a copy there instead", path))
    if path.is_symlink() and not os.path.exists(target):
        action = "put the file there, or remove it"
        raise DataError(Problem(place, "a broken link", action, path))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]
