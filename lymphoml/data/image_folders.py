"""One folder of images per patient: found by exact name, never outside the cohort's root."""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.untrusted import FORMULA, is_safe_text


def bag_names(folder: Path) -> list[str]:
    """The folders in `folder`, taken for bags where no table says which are; none without it."""
    try:
        return sorted(each.name for each in _visible(folder) if os.path.isdir(each))
    except OSError:
        return []


def find_bags(
    folder: Path, root: Path, pattern: str, places: Mapping[str, str]
) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """The images of each patient, sorted by name, and the problems met.

    `places` says for each patient's id where its row stands, for the messages. Hidden files and
    folders (.DS_Store, ._000.jpg) are passed over, and so are files that do not match `pattern`.
    """
    try:
        assert_inside_root(folder, root)
        present = {each.name: each for each in _visible(folder) if os.path.isdir(each)}
    except (OSError, InputError) as error:
        return {}, [f"no folder of images: {error}; check data.root"]
    bags: dict[str, tuple[Path, ...]] = {}
    problems = [
        f"{folder}, folder {quoted(name, 99)}: "
        "no row in the table; add the patient, or move it away"
        for name in sorted(present.keys() - places.keys())
    ]
    for patient, place in places.items():
        if patient not in present:
            problems.append(f"{place}: no such folder in {folder}; add it, or remove the row")
            continue
        try:
            if present[patient].is_symlink():
                assert_inside_root(folder / patient, root)
            bags[patient] = _images(folder / patient, root, pattern)
        except (OSError, InputError) as error:
            problems.append(f"{place}: {error}")
    return bags, problems


def _images(bag: Path, root: Path, pattern: str) -> tuple[Path, ...]:
    names = []
    for entry in _visible(bag):
        if fnmatchcase(entry.name, pattern):
            if entry.is_symlink():
                assert_inside_root(bag / entry.name, root)
            if pattern == "*" and entry.is_dir():
                continue
            if not entry.is_file():
                raise InputError(
                    f"{bag / entry.name} is no file; put the image there, or remove it"
                )
            if not is_safe_text(entry.name):
                raise InputError(
                    f"{bag} holds a file called {quoted(entry.name, 60)}; a name must not begin "
                    f"with {' '.join(FORMULA)}, and hold letters that can be seen only"
                )
            names.append(entry.name)
    if not names:
        raise InputError(f"no image {pattern} in {bag}; add images, or adapt data.image_pattern")
    return tuple(bag / name for name in sorted(names))


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def assert_inside_root(path: Path, root: Path) -> None:
    """Raises InputError for a path that leads out of `root`, by a link or by .. in it."""
    try:
        target = Path(os.path.realpath(path))
        inside = target.is_relative_to(os.path.realpath(root))
    except ValueError:  # NUL in the name
        raise InputError(f"{path}: no file can have this name") from None
    if not inside:
        raise InputError(f"{path} links to a place outside {root}; put a copy there instead")
    if path.is_symlink() and not os.path.exists(target):
        raise InputError(f"{path} does not exist, or is a broken link")
