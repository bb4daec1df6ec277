"""A competition's cohort from Kaggle: fetched, unpacked and checked, then moved into its place."""

import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path

from filelock import FileLock, Timeout
from rich.filesize import decimal

from lymphoml.core.errors import InputError, RuntimeFailure, one_line
from lymphoml.core.kaggle_client import ask_kaggle
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.settings import DataConfig

TABLE = Path("trainset", "trainset_true.csv")
DLMI = "dlmi-lymphocytosis-classification"
COUNTS = {DLMI: (163, 42, 16_711)}  # labelled patients, unlabelled ones, images


def download_cohort(data: DataConfig, competition: str, timeout: float = 3600.0) -> Cohort:
    """Return the cohort in `data.root`, which is fetched first unless the folder has files.

    What was fetched waits in a hidden folder beside it until tables and folders are right, so that
    a command that was interrupted fetches the rest alone. Raises InputError for a folder that is
    not the cohort, which is never written to, and for what Kaggle refuses; RuntimeFailure for a
    connection or a disk that gave out.
    """
    root = Path(data.root).expanduser().resolve()
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        if root.is_mount():
            raise InputError(
                f"{root}: is mounted, and is to be replaced whole; give a folder in it"
            )
        waiting = root.with_name(f".{root.name}.download")
        waiting.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(waiting / ".lock", timeout=0):
                print(f"fetching {competition} from Kaggle into {waiting}", flush=True)
                folder = _unpack(_fetch(competition, waiting, timeout), waiting / "unpacked")
                load_cohort(data.replace({"root": str(folder)}))  # every problem of it
                folder.rename(root)  # over an empty folder, too
                shutil.rmtree(waiting)
        except Timeout:
            raise InputError(f"{waiting}: another process fetches into it. Wait for it.") from None
    cohort = load_cohort(data)
    if (found := count(cohort)) != (expected := COUNTS.get(competition, found)):
        raise InputError(
            f"{root}: has {found[0]} labelled and {found[1]} unlabelled patients with {found[2]} "
            f"images, {competition} has {expected[0]}, {expected[1]} and {expected[2]}. Move the "
            f"folder away and run the same command again"
        )
    return cohort


def count(cohort: Cohort) -> tuple[int, int, int]:
    """Return the number of labelled and unlabelled patients and of images."""
    labelled = int((cohort.table["label"] >= 0).sum())
    return labelled, len(cohort.table) - labelled, sum(map(len, cohort.images.values()))


def _fetch(competition: str, folder: Path, timeout: float) -> Path:
    """Return the archive, fetched into `folder` as far as it is not there."""
    try:
        words = "download", competition, f"--path={folder}", "--quiet"
        answer = ask_kaggle(*words, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RuntimeFailure(
            f"Kaggle did not send {competition} within {timeout:g} seconds; rerun the same command "
            f"to fetch the rest"
        ) from None
    archives = sorted(folder.glob("*.zip"))
    if answer.code == 0 and len(archives) == 1:
        return archives[0]
    problem = f"{competition} cannot be fetched; Kaggle's client answered: {answer.reason}"
    if "403" in answer.reason or "rules" in answer.reason:
        raise InputError(
            f"{problem}. Accept the competition's rules on its page on Kaggle (Join Competition, "
            f"with the account of the key), then run the same command again."
        )
    if "404" in answer.reason or "Not Found" in answer.reason.title():
        raise InputError(f"{problem}. Give the name in the competition's address: competition=NAME")
    raise RuntimeFailure(f"{problem}. Rerun the same command to fetch the rest.")


def _unpack(archive: Path, folder: Path) -> Path:
    """Return the folder within `folder` that has the tables.

    Raises RuntimeFailure for a damaged archive, which is removed, and without room for it.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted command
    try:
        with zipfile.ZipFile(archive) as content:
            size = sum(each.file_size for each in content.infolist())
            if size > (free := shutil.disk_usage(archive.parent).free):
                needed, left = decimal(size), decimal(free)
                raise RuntimeFailure(f"{archive.parent}: needs {needed}, has {left}; make room")
            content.extractall(folder)  # names lead nowhere else, and no entry is larger
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        archive.unlink()
        reason = f"is damaged ({one_line(error)}) and was removed"
        raise RuntimeFailure(f"{archive}: {reason}; rerun the same command") from None
    tables = sorted(folder.rglob(TABLE.name))
    if len(tables) != 1 or tables[0].parts[-2:] != TABLE.parts:
        raise InputError(
            f"{archive}: must hold {TABLE} once, as {DLMI} does; give competition={DLMI}, or "
            f"unpack it by hand and declare the cohort (docs/data.md)"
        )
    return tables[0].parents[1]
