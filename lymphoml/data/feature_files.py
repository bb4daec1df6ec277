"""Feature vectors of images from a file, whoever made them, and to one.

A .csv with the columns `patient`, `image` (the file's name in the patient's folder) and one for
each feature; or a .npz with the arrays `patient` and `image`, texts of shape (n), `features`,
numbers of shape (n, d), and optionally `names`, texts of shape (d). Either may say in `encoder`,
one text, what made the vectors: network, weights and preprocessing.
"""

import io
import math
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.core.files import atomic_write, write_csv
from lymphoml.core.untrusted import is_safe_text, read_bytes, read_csv
from lymphoml.data.cache import Images
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.problems import shortened

KEYS = ["patient", "image"]
ENCODER = "encoder"
SUFFIXES = (".csv", ".npz")
NO_FEATURES = ("", "label", "labels", "target", "index", "id", "fold")
LARGEST = 1 << 30  # bytes of a file, unpacked: half a million images of 512 features
MAX_TEXTS = 1 << 24


def read_feature_file(path: Path, images: Images) -> tuple[FeatureStore, str]:
    """Return the vectors of exactly these images, and a digest. Raises InputError, a line a row."""
    table = _read(path)
    encoder = _pop_encoder(path, table)
    if problems := [*_row_problems(table, images), *_cell_problems(table, images)]:
        raise InputError(f"features {path}: {each}" for each in shortened(problems))
    indexed = table.set_index(KEYS)
    whole, features = sha256("\x1f".join(indexed.columns).encode()), {}
    for patient, paths in images.items():
        wanted = pd.MultiIndex.from_product([[patient], [file.name for file in paths]])
        # In the memory order of computed features: sums are the same to the last bit.
        features[patient] = np.ascontiguousarray(indexed.loc[wanted].to_numpy(np.float32))
        whole.update(f"{patient}\x1f{len(paths)}\x1f".encode() + features[patient].tobytes())
    return FeatureStore(features, list(indexed.columns), encoder=encoder), whole.hexdigest()


def read_encoder(path: Path) -> str | None:
    """Return what made the vectors in a file, where it says so."""
    return _pop_encoder(path, _read(path))


def _pop_encoder(path: Path, table: pd.DataFrame) -> str | None:
    if ENCODER not in table:
        return None
    encoders = list(table.pop(ENCODER).unique())
    if len(encoders) != 1 or not is_safe_text(encoders[0]):
        raise InputError(f"features {path}: {ENCODER} must be one printable text")
    return str(encoders[0])


def write_feature_file(path: Path, store: FeatureStore, images: Images, encoder: str) -> None:
    """Write what `read_feature_file` reads; only the file's owner may read it."""
    check_suffix(path)
    keys = [(patient, file.name) for patient, paths in images.items() for file in paths]
    features = np.concatenate([store.bag(patient) for patient in images])
    if path.suffix == ".csv":
        table = pd.DataFrame(keys, columns=KEYS).join(pd.DataFrame(features, columns=store.names))
        table.insert(len(KEYS), ENCODER, encoder)
        write_csv(path, table, private=True)
        return
    patient, image = (np.array(column) for column in zip(*keys, strict=True))
    with atomic_write(path, private=True) as file:
        np.savez_compressed(
            file, patient=patient, image=image, features=features,
            names=np.array(store.names), encoder=np.array(encoder),
        )  # fmt: skip


def check_suffix(path: Path) -> None:
    """Raise InputError unless the file's name ends in one of SUFFIXES."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: must end in {' or '.join(SUFFIXES)}")


def read_arrays(path: Path, largest: int) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz; raises OSError and whatever numpy does. Nothing is unpickled."""
    file = io.BytesIO(read_bytes(path, largest))
    with zipfile.ZipFile(file) as archive:
        if sum(each.file_size for each in archive.infolist()) > largest:
            raise ValueError(f"larger than {largest >> 20} MiB when unpacked")
        for each in archive.infolist():
            _check_claim(archive, each)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check_claim(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise ValueError for an array of more items than its bytes hold, which numpy would allocate.

    A text of no bytes, or of few, becomes an object of 60 in memory.
    """
    readers = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
    with archive.open(member) as file:
        shape, _, dtype = readers[read_magic(file)](file)
    items = math.prod(shape)
    room = member.file_size // dtype.itemsize if dtype.itemsize else 0
    if items > room and not dtype.hasobject:
        raise ValueError(f"{member.filename} claims {items:,} items; it has no room for them")
    if dtype.kind in "SU" and items > MAX_TEXTS:
        raise ValueError(f"{member.filename} has more than {MAX_TEXTS:,} texts")


def _read(path: Path) -> pd.DataFrame:
    check_suffix(path)
    try:
        if path.suffix == ".csv":
            texts = dict.fromkeys((*KEYS, ENCODER), str)
            table = read_csv(path, LARGEST, dtype=texts, na_filter=False)
        else:
            table = _from_arrays(read_arrays(path, LARGEST))
        table = table.astype(dict.fromkeys(KEYS, str))
        if not set(table) - {*KEYS, ENCODER}:
            raise ValueError(f"only {' and '.join(KEYS)}")
        if duplicated := sorted(set(table.columns[table.columns.duplicated()])):
            raise ValueError(f"column {duplicated[0]} is duplicated")
        if unsafe := [name for name in map(str, table.columns) if not is_safe_text(name)]:
            raise ValueError(f"column {quoted(unsafe[0], 60)} is a formula, or cannot be seen")
        if wrong := [name for name in map(str, table.columns) if is_no_feature(name)]:
            raise ValueError(f"column {quoted(wrong[0], 60)}: is no feature; leave it out")
        return table
    except Exception as error:  # whatever a foreign file makes the parsers say
        reason = getattr(error, "strerror", None) or one_line(error)[:200]
        raise InputError(
            f"features {path}: {reason}; it needs {' and '.join(KEYS)} and a number for each "
            f"feature, see docs/data.md"
        ) from None


def _from_arrays(arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    features = arrays["features"]
    if features.ndim != 2:
        raise ValueError(f"features have {features.ndim} dimensions, not images by features")
    names = arrays["names"] if "names" in arrays else range(features.shape[1])
    table = pd.DataFrame(features, columns=[str(name) for name in names])
    keys = pd.DataFrame({key: arrays[key] for key in KEYS})
    if len(keys) != len(table):
        raise ValueError(f"{len(keys)} images, but {len(table)} feature vectors")
    if ENCODER in arrays:
        keys[ENCODER] = str(arrays[ENCODER])
    return pd.concat([keys, table], axis=1)


def is_no_feature(name: str) -> bool:
    """Whether a column is a table's index, which the rows' order may make a label, or labels."""
    name = name.strip().casefold()
    return name in NO_FEATURES or name.startswith("unnamed: ")


def _row_problems(table: pd.DataFrame, images: Images) -> Iterator[str]:
    rows = pd.MultiIndex.from_frame(table[KEYS][table["patient"].isin(list(images))])
    wanted = pd.MultiIndex.from_tuples(
        [(patient, file.name) for patient, paths in images.items() for file in paths], names=KEYS
    )
    for patient, image in rows[rows.duplicated()].unique():
        yield f"image {image} of patient {patient} is duplicated; keep one row"
    for patient, image in wanted.difference(rows, sort=False):
        yield f"no row for image {image} of patient {patient}; compute it, add it"
    for patient, image in rows.difference(wanted, sort=False).unique():
        yield (
            f"image {image} of patient {patient} is not in the cohort; remove the row, or adapt "
            f"data.image_pattern"
        )


def _cell_problems(table: pd.DataFrame, images: Images) -> Iterator[str]:
    table = table[table["patient"].isin(list(images))]
    for name in table.columns.difference(KEYS, sort=False):
        with np.errstate(over="ignore"):
            numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float32)
        for row in np.flatnonzero(~np.isfinite(numbers)):
            patient, image = table.iloc[row][KEYS]
            yield (
                f"column {name}, image {image} of patient {patient}: not a finite number; fill it "
                f"in, or leave the column out"
            )
