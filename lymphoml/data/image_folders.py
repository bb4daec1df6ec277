"""One folder of images per patient: files are used, or counted by why they are not."""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from lymphoml.core.errors import quoted
from lymphoml.core.untrusted import FORMULA, is_safe_text
from lymphoml.data.problems import DataError, Place, Problem
from lymphoml.data.settings import DataConfig

Paths = tuple[Path, ...]
Unused = Counter[str]  # files by why they are not used; of their names at most the suffix

# What file systems, network disks and archives leave behind.
OF_SYSTEMS = re.compile(
    r"@(eaDir|tmp|Recycle|Recently-Snapshot)|#(recycle|snapshot)|lost\+found|\$RECYCLE\.BIN|"
    r"System Volume Information|__MACOSX|(eh)?Thumbs\.db|desktop\.ini|\.DS_Store|\._.*|Icon\r",
    re.IGNORECASE | re.DOTALL,
)
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of images
SYSTEM, HIDDEN, DEEPER = "made by a file system", "hidden", "in deeper folders"
OTHER, LOOSE = "other files", "outside the patients' folders"
HARMLESS = (SYSTEM, HIDDEN)


class Bags(NamedTuple):
    """What a folder of patients' folders has."""

    images: dict[str, Paths]
    unused: dict[str, Unused]  # of each patient's folder; of "" what lies beside these
    problems: list[Problem]


def root_folder(data: DataConfig) -> Path:
    return Path(data.root).expanduser()  # no shell expands the ~ of data.root=~/cohort


def find_bags(folder: Path, data: DataConfig, places: Mapping[str, Place] | None) -> Bags:
    """Return each patient's images; without `places` every folder is a patient's."""
    bags = Bags({}, {}, [])
    try:
        check_inside_root(folder, data, Place(folder))
        present, bags.unused[""] = _folders(folder, places or ())
    except OSError as error:
        if places is not None:
            what = f"no folder of images ({error.strerror})"
            bags.problems.append(Problem(Place(folder), what, "check data.root"))
        return bags
    except DataError as error:
        bags.problems.extend(error.found)
        return bags
    if places is None:
        places = {name: Place(folder / name) for name in sorted(present)}
    for name in sorted(present - places.keys()):
        place, what = Place(folder, f"folder {quoted(name, 99)}"), "no row in the table"
        bags.problems.append(Problem(place, what, "add the patient, or move it away"))
    for patient, place in places.items():
        if patient not in present:
            action = "add it, or remove the row"
            bags.problems.append(Problem(place, "no such folder", action, private=folder))
            continue
        try:
            check_inside_root(folder / patient, data, place)
            bags.images[patient], bags.unused[patient] = patient_images(
                folder / patient, data, place
            )
        except DataError as error:
            bags.problems.extend(error.found)
    return bags


def format_unused(unused: Mapping[str, int]) -> str:
    """Return `40 *.png, 1 hidden`."""
    return ", ".join(f"{count:,} {why}" for why, count in sorted(unused.items()))


def _folders(folder: Path, patients: Collection[str]) -> tuple[set[str], Unused]:
    """Return the names of folders that may be patients', and what is unused beside them."""
    present, unused = set(), Unused()
    for entry in os.scandir(folder):
        if entry.name not in patients and OF_SYSTEMS.fullmatch(entry.name):
            unused[SYSTEM] += 1
        elif not entry.name.startswith("."):
            if _is_folder(entry):
                present.add(entry.name)
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                unused[LOOSE] += 1
    return present, unused


def patient_images(bag: Path, data: DataConfig, place: Place) -> tuple[Paths, Unused]:
    """Return the images in a patient's folder, sorted, and what is not used. Raises DataError."""
    names, unused, pattern = [], Unused(), data.image_pattern
    try:
        entries = list(os.scandir(bag))
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise DataError(Problem(place, what, "check its permissions", bag)) from None
    for entry in entries:
        path = bag / entry.name
        if why := _why_unused(entry, pattern):
            walk = os.walk(path) if why == DEEPER and not entry.is_symlink() else ()
            unused[why] += sum(len(files) for _, _, files in walk) or 1
            continue
        if entry.is_symlink():
            check_inside_root(path, data, place)
        if not entry.is_file():
            raise DataError(Problem(place, "not a file", "put the image there, or remove it", path))
        if not is_safe_text(entry.name):
            action = f"use visible characters, and begin with none of {' '.join(FORMULA)}"
            shown = f"{bag.name}/{quoted(entry.name, 60)}"
            raise DataError(Problem(place, "a file has a refused name", action, shown))
        names.append(entry.name)
    if not names:
        there = f" (there: {format_unused(unused)})" if unused else ""
        action = f"add images, or adapt data.image_pattern{there}"
        raise DataError(Problem(place, f"no image {pattern}", action, bag))
    return tuple(bag / name for name in sorted(names)), unused


def _why_unused(entry: os.DirEntry[str], pattern: str) -> str:
    """Return why an entry of a patient's folder is no image; empty where it must be one."""
    if OF_SYSTEMS.fullmatch(entry.name):
        return SYSTEM
    if entry.name.startswith("."):
        return HIDDEN
    name = _lower_suffix(entry.name)
    fits = fnmatchcase(entry.name, pattern) or fnmatchcase(name, _lower_suffix(pattern))
    if (pattern == "*" or not fits) and _is_folder(entry):
        return DEEPER
    if fits:
        return ""
    return f"*{Path(name).suffix}" if name.endswith(SUFFIXES) else OTHER


def _lower_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem + suffix.lower()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()  # which a loop raises in


def check_inside_root(path: Path, data: DataConfig, place: Place) -> None:
    """Raise DataError for a path that leads out of data.root: by .. in it, or an unmeant link."""
    resolve = os.path.abspath if data.follow_links else os.path.realpath
    try:
        target = Path(os.path.realpath(path))
        inside = Path(resolve(path)).is_relative_to(resolve(root_folder(data)))
    except ValueError:  # NUL in the name
        raise DataError(Problem(place, "no file can have this name", "correct it")) from None
    if not inside:
        what, action = "a place outside data.root", "give one below it"
        if not data.follow_links:
            what, action = f"a link to {what}", "put a copy there, or set data.follow_links=true"
        raise DataError(Problem(place, what, action, path))
    if path.is_symlink() and not os.path.exists(target):
        action = "put the file there, or remove it"
        raise DataError(Problem(place, "a broken link", action, path))
