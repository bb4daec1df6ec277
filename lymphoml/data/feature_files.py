"""Features of images from a file, whoever made them, and to one.

A table (.csv, .parquet) with the columns `patient`, `image` (the file's name in the patient's
folder) and one for each feature; or a .npz with the arrays `patient` and `image`, texts of shape
(n), and `features`, numbers of shape (n, d), and optionally `names`, texts of shape (d).
"""

import io
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.core.files import atomic_write, write_csv
from lymphoml.core.untrusted import is_safe_text, read_bytes
from lymphoml.data.cache import Images
from lymphoml.data.feature_store import FeatureStore

KEYS = ["patient", "image"]
SUFFIXES = (".csv", ".parquet", ".npz")
SHOWN = 20  # problems; a file of another cohort has thousands
LARGEST = 1 << 30  # bytes of a file, unpacked: half a million images of 512 features


def read_rows(path: Path, images: Images) -> tuple[FeatureStore, str]:
    """The rows of exactly these patients' images, and a digest of them.

    Raises InputError with a line for each image that lacks a row, each row of a patient's that has
    no image, each row that stands twice, and each cell that is no finite number. Rows of other
    patients are passed over: one file may serve several cohorts.
    """
    table = _read(path)
    problems = [*_row_problems(table, images, path), *_cell_problems(table, path)]
    if problems:
        rest = len(problems) - SHOWN
        raise InputError(problems[:SHOWN] + [f"... and {rest} more problems"] * (rest > 0))
    indexed = table.set_index(KEYS)
    whole, rows = sha256("\x1f".join(indexed.columns).encode()), {}
    for patient, paths in images.items():
        wanted = pd.MultiIndex.from_product([[patient], [file.name for file in paths]])
        # In the order of memory that measured rows have: sums are the same to the last bit.
        rows[patient] = np.ascontiguousarray(indexed.loc[wanted].to_numpy(np.float32))
        whole.update(f"{patient}\x1f{len(paths)}\x1f".encode() + rows[patient].tobytes())
    return FeatureStore(rows, list(indexed.columns)), whole.hexdigest()


def write_rows(path: Path, store: FeatureStore, images: Images) -> None:
    """What `read_rows` reads, its owner's alone. Raises InputError for other than SUFFIXES."""
    check_suffix(path)
    keys = [(patient, file.name) for patient, paths in images.items() for file in paths]
    features = np.concatenate([store.bag(patient) for patient in images])
    table = pd.DataFrame(keys, columns=KEYS).join(pd.DataFrame(features, columns=store.names))
    if path.suffix == ".csv":
        write_csv(path, table, private=True)
        return
    with atomic_write(path, private=True) as file:
        if path.suffix == ".parquet":
            table.to_parquet(file, index=False)
        else:
            patient, image = (np.array(column) for column in zip(*keys, strict=True))
            np.savez_compressed(
                file, patient=patient, image=image, features=features, names=np.array(store.names)
            )  # fmt: skip


def check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: allowed are files that end in {', '.join(SUFFIXES)}")


def _read(path: Path) -> pd.DataFrame:
    check_suffix(path)
    try:
        file = io.BytesIO(read_bytes(path, LARGEST))
        if path.suffix == ".csv":
            table = pd.read_csv(file, dtype=dict.fromkeys(KEYS, str), na_filter=False)
        elif path.suffix == ".parquet":
            table = pd.read_parquet(file)
        else:
            table = _from_arrays(file)
        table = table.astype(dict.fromkeys(KEYS, str))
    except ImportError:
        raise InputError(
            f"features {path}: reading .parquet needs the package pyarrow; install it, or give a "
            f".csv or .npz"
        ) from None
    except Exception as error:  # whatever a foreign file makes the parsers say
        told = getattr(error, "strerror", None) or one_line(error)[:200]
        raise InputError(
            f"features {path}: {told}; it needs {' and '.join(KEYS)} and a number "
            f"for each feature, as docs/data.md tells"
        ) from None
    if table.shape[1] == len(KEYS):
        raise InputError(
            f"features {path}: no column beside {' and '.join(KEYS)}; add the features"
        )
    if repeated := sorted(set(table.columns[table.columns.duplicated()])):
        raise InputError(f"features {path}: column {repeated[0]} stands there twice")
    if odd := [name for name in map(str, table.columns) if not is_safe_text(name)]:
        raise InputError(
            f"features {path}: column {quoted(odd[0], 60)} is a formula to a spreadsheet, or "
            f"cannot be seen; rename it"
        )
    return table


def _from_arrays(file: io.BytesIO) -> pd.DataFrame:
    with zipfile.ZipFile(file) as archive:
        if sum(each.file_size for each in archive.infolist()) > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB when unpacked")
    with np.load(file, allow_pickle=False) as arrays:
        features = arrays["features"]
        if features.ndim != 2:
            raise ValueError(f"features are of {features.ndim} dimensions, not images by features")
        names = arrays["names"] if "names" in arrays else range(features.shape[1])
        table = pd.DataFrame(features, columns=[str(name) for name in names])
        keys = pd.DataFrame({key: arrays[key] for key in KEYS})
    if len(keys) != len(table):
        raise ValueError(f"{len(keys)} images, but {len(table)} rows of features")
    return pd.concat([keys, table], axis=1)


def _row_problems(table: pd.DataFrame, images: Images, path: Path) -> Iterator[str]:
    mine = table[table["patient"].isin(list(images))]
    rows = pd.MultiIndex.from_frame(mine[KEYS])
    wanted = pd.MultiIndex.from_tuples(
        [(patient, file.name) for patient, paths in images.items() for file in paths], names=KEYS
    )
    for patient, image in rows[rows.duplicated()].unique():
        yield f"features {path}: image {image} of patient {patient} stands there twice; keep one"
    for patient, image in wanted.difference(rows, sort=False):
        yield f"features {path}: no row for image {image} of patient {patient}; compute it, add it"
    for patient, image in rows.difference(wanted, sort=False).unique():
        yield (
            f"features {path}: image {image} of patient {patient} is not in the cohort; remove the "
            f"row, or see that data.image_pattern finds the image"
        )


def _cell_problems(table: pd.DataFrame, path: Path) -> Iterator[str]:
    for name in table.columns.difference(KEYS, sort=False):
        with np.errstate(over="ignore"):
            numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float32)
        for row in np.flatnonzero(~np.isfinite(numbers)):
            patient, image = table.loc[row, KEYS]
            yield (
                f"features {path}: column {name}, image {image} of patient {patient}: no finite "
                f"number; fill it in, or leave the column out"
            )
