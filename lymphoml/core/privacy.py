"""What must not leave this machine: files about single patients, birth dates, paths.

`PRIVATE` is the one list of the files that may name a patient; SECURITY.md repeats it. Whatever
else is written names none.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

PRIVATE = {  # file name: what is in it
    "folds.csv": "who is in which fold",
    "predictions.csv": "each patient's label and probability",
    "baselines.csv": "each patient's probability by the baselines",
    "outside_range.csv": "who lies outside the training patients' range, and in which value",
    "trained_on.json": "who a fold's model was trained on, with digests of person and images",
    "strata.csv": "each patient's subgroups, such as sex",
    "instances.csv": "each image's probability, under its file's name",
    "submission.csv": "each test patient's predicted label",
    "pseudonyms.csv": "the patient behind each pseudonym of the report",
    "cells.csv": "what each image does to its patient's logit",
    "patients.csv": "each patient's logit, and that without the cells of largest effect",
    "measures.csv": "what each measure does to each patient's logit",
    "*labelled-*.csv": "the same three, of the model of one fold",
    "randomised-*.csv": "checks of the explanations of each patient",
    "control-*.csv": "the same of another run's models",
    "[0-9]*.npz": "the same of the models of all folds",
    "*-maps.npz": "where in each image the evidence lies",
    "*.occlusion.png": "a patient's cell under such a map",
    "*.grad_cam.png": "the same",
    "audit.json": "patients, files and ages in years, with their problems",
    "*.npy": "a patient's decoded images or their features (the cache)",
}

LOCAL = ("root", "cache", "folds_csv")  # of `data`: paths of this machine

# In English, French and German. Hiding too much does no harm.
_MONTH = r"(?:jan|f[eé][bv]|m[aä]r|a[pv]r|ma[iy]|ju[inl]|a[uo][gû]|sep|o[ck]t|nov|d[eé][cz])\w*\.?"
_DAY, _NUMBER = r"(?:0[1-9]|[12]\d|3[01])", r"(?:0[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
DATE = re.compile(
    r"\d+(?:[-/.\s]+\d+){2,}"  # numbers with separators of dates
    rf"|(?<!\d)(?:{_YEAR}{_NUMBER}{_DAY}|{_DAY}{_NUMBER}{_YEAR}|{_NUMBER}{_DAY}{_YEAR})(?!\d)"
    rf"|\d{{1,4}}(?:st|nd|rd|th)?[-/.,\s]*{_MONTH}[-/.,\s]*\d{{1,4}}"
    rf"|(?<!\w){_MONTH}[-/.,\s]*\d{{1,2}}(?:st|nd|rd|th)?[-/.,\s]+\d{{2,4}}",
    re.IGNORECASE,
)


def is_private(path: Path) -> bool:
    """Return whether a file of this name is about single patients."""
    return any(fnmatchcase(path.name, name) for name in PRIVATE)


def hide_dates(text: str) -> str:
    """Return the text without what may be a birth date, in whatever format."""
    return DATE.sub("(a date)", text)


def leaves_project(text: str) -> bool:
    """Return whether the text is a path out of the working directory, and so names folders."""
    return (
        text.startswith("~")
        or PurePosixPath(text).is_absolute()
        or PureWindowsPath(text).is_absolute()
        or ".." in PurePosixPath(text).parts
    )


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without this machine's paths; of other paths the last part."""
    data = {
        key: item
        for key, item in config["data"].items()
        if key not in ("follow_links", "device_cache")  # nobody means those of another machine
        and not (key in LOCAL and isinstance(item, str) and leaves_project(item))
    }
    return last_parts({**config, "data": data})


def last_parts(config: Any) -> Any:
    """Return a configuration with `.../` and the last part of each path that leaves the project."""
    if isinstance(config, Mapping):
        return {key: last_parts(item) for key, item in config.items()}
    if isinstance(config, list):
        return [last_parts(item) for item in config]
    if isinstance(config, str) and leaves_project(config):
        return ".../" + re.split(r"[/\\]", config.rstrip("/"))[-1]
    return config
