"""What stays with whoever runs lymphoml: files about single patients, birth dates, paths.

`PRIVATE` is the one list of the files that may name a patient; SECURITY.md repeats it. Whatever
else is written names none.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

PRIVATE = {  # file name: content
    "folds.csv": "who is in which fold",
    "predictions.csv": "each patient's label and probability",
    "baselines.csv": "each patient's probability by the baselines",
    "strata.csv": "each patient's subgroups, such as sex",
    "instances.csv": "each image's probability, under its file's name",
    "submission.csv": "each test patient's predicted label",
    "pseudonyms.csv": "the patient behind each pseudonym of the report",
    "audit.json": "patients, files and ages in years, with their problems",
    "*.npy": "a patient's decoded images or their features (the cache)",
}

LOCAL = ("root", "cache", "folds_csv")  # of `data`: where something lies on this machine

# In English, French and German. A sentence that is hidden by mistake is no harm.
_MONTH = r"(?:jan|f[eé][bv]|m[aä]r|a[pv]r|ma[iy]|ju[inl]|a[uo][gû]|sep|o[ck]t|nov|d[eé][cz])\w*\.?"
_DAY, _NUMBER = r"(?:0[1-9]|[12]\d|3[01])", r"(?:0[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
DATE = re.compile(
    r"\d+(?:[-/.\s]+\d+){2,}"  # numbers parted by what parts dates
    rf"|(?<!\d)(?:{_YEAR}{_NUMBER}{_DAY}|{_DAY}{_NUMBER}{_YEAR}|{_NUMBER}{_DAY}{_YEAR})(?!\d)"
    rf"|\d{{1,4}}(?:st|nd|rd|th)?[-/.,\s]*{_MONTH}[-/.,\s]*\d{{1,4}}"
    rf"|(?<!\w){_MONTH}[-/.,\s]*\d{{1,2}}(?:st|nd|rd|th)?[-/.,\s]+\d{{2,4}}",
    re.IGNORECASE,
)


def is_private(path: Path) -> bool:
    """Whether a file of this name is about single patients."""
    return any(fnmatchcase(path.name, name) for name in PRIVATE)


def hide_dates(text: str) -> str:
    """Without what may be a birth date, however it is written: a cell may have slipped."""
    return DATE.sub("(a date)", text)


def leaves_project(text: str) -> bool:
    """Whether it is a path that leads out of the working directory, and so through its name."""
    return (
        text.startswith("~")
        or PurePosixPath(text).is_absolute()
        or PureWindowsPath(text).is_absolute()
        or ".." in PurePosixPath(text).parts
    )


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration as its folder may tell it, without the paths of this machine.

    Those of `data` in LOCAL are left out where they lead out of the working directory; of any other
    path that does (a file of weights or features) the last part stays.
    """
    kept = {key: item for key, item in config["data"].items() if not _leads_away(key, item)}
    return last_parts({**config, "data": kept})


def last_parts(config: Any) -> Any:
    """A configuration in which a path that leads away is `.../` and its last part."""
    if isinstance(config, Mapping):
        return {key: last_parts(item) for key, item in config.items()}
    if isinstance(config, list):
        return [last_parts(item) for item in config]
    if isinstance(config, str) and leaves_project(config):
        return ".../" + re.split(r"[/\\]", config.rstrip("/"))[-1]
    return config


def _leads_away(key: str, value: Any) -> bool:
    return key in LOCAL and isinstance(value, str) and leaves_project(value)
