"""What a model was learned from: asked by every command that joins models, tables and features.

No torch: a run folder that does not belong together is refused before it is imported.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.files import sha256, write_json
from lymphoml.core.privacy import portable
from lymphoml.core.section import Section, to_override
from lymphoml.core.untrusted import leaves as all_leaves
from lymphoml.core.untrusted import read_mapping
from lymphoml.core.user_key import key_name
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import split
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.naming import in_groups, leaves
from lymphoml.runs.provenance import DATA, RESOLVED, WEIGHTS, read_changes, weights_file
from lymphoml.runs.run_folder import REMOVE, read_config, read_environment

if TYPE_CHECKING:
    from lymphoml.runs.prepare import RunContext

TRAINED_ON = "trained_on.json"
FOLDS = "content of folds.csv"
BAGS = "content of bags"  # beside the columns of a table
# What a prediction may set for another cohort or machine; all else comes from the run.
OF_COHORT = ("name", "layout", "root", "table", "image_dir", "image_pattern", "id_column",
             "label_column", "label_values", "columns", "date_formats", "reference_date",
             "person_column", "site_column", "follow_links", "features.path", "cache",
             "num_workers", "timeout")  # fmt: skip
OF_MACHINE = ("accelerator", "precision", "num_threads", "encoder_chunk_size",
              "enable_progress_bar")  # fmt: skip
MAY_DIFFER = [f"data.{key}" for key in OF_COHORT] + [f"trainer.{key}" for key in OF_MACHINE]


class PatientDigests(Section):
    """Digests of a person, None where unknown, and of images: `known_patients`."""

    person: str | None
    images: list[str]


class FeaturesOf(Section):
    """Which feature vectors a model learned from: the digest of their file, made by `encoder`."""

    encoder: str | None
    features_file: str | None


class TrainedOn(FeaturesOf):
    """What a fold's model was learned from, written before it is trained.

    `values` are those of `values_of`; `table` and `test_table` a digest of each column of the
    patients with a label, and of those without, with BAGS of these; `patients` are all that it does
    not hold out.
    """

    fold: int
    values: dict[str, Any]
    table: dict[str, str]
    test_table: dict[str, str]
    salt: str
    key: str  # its name: that of the user
    patients: dict[str, PatientDigests]


def column_digests(cohort: Cohort) -> dict[str, str]:
    """Return a digest of each column of a cohort's table, the patients' ids included.

    Ages count in whole years: of few patients, birth dates could be found by trying them all.
    """
    ages = {name: 0 for name in cohort.table if f"{name} format" in cohort.origin}
    table = cohort.table.round(ages)
    texts = {str(name): table[[name]].to_csv() for name in table if name != "group"}  # derived
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}


def differing_columns(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the columns that both tables have with other values or patients; labels always."""
    names = [name for name in one if name in other and name != "label"]
    return [name for name in ("label", *names) if one.get(name) != other.get(name)]


def values_of(
    config: Mapping[str, Any], environment: Mapping[str, Any], folds_csv: Path
) -> dict[str, Any]:
    """Return the `values` of a run's configuration, `environment.json` and `folds.csv`."""
    if not isinstance(config.get("data"), Mapping):
        raise InputError(f"{folds_csv.with_name('config.yaml')} has no section data; {REMOVE}")
    content = {DATA: environment.get("data_fingerprint"), WEIGHTS: environment.get("weights")}
    return dict(leaves(portable(config))) | content | {FOLDS: sha256(folds_csv)}


def write_trained_on(run: "RunContext", fold: int) -> None:
    """Write what the fold is about to learn from."""
    environment = {"data_fingerprint": run.data.fingerprint}
    if (weights := weights_file(run.config)) is not None:
        environment["weights"] = sha256(weights)[:16]
    features = run.config.data.feature_file if run.data.store is not None else None
    train, _ = split(run.data.folds, fold, run.config.data.folds)
    found = TrainedOn(
        fold=fold,
        values=values_of(run.config.to_dict(), environment, run.folder / "folds.csv"),
        table=column_digests(run.data.cohort),
        test_table=run.data.test_table,
        encoder=getattr(run.data.store, "encoder", None),
        features_file=None if features is None else sha256(features),
        salt=run.data.fingerprint,
        key=key_name(),
        patients={patient: run.data.digests[patient] for patient in train},
    )
    write_json(fold_folder(run.folder, fold) / TRAINED_ON, found.to_dict())


def check_folds(run: Path) -> dict[int, TrainedOn]:
    """Return what each fold that was begun was trained on, by fold.

    Raises InputError where it was something else than the run says, changes of a resume included.
    """
    environment, config = read_environment(run), read_config(run) or {}
    expected = values_of(config, environment, run / "folds.csv")
    allowed = {name: [value] for name, value in expected.items()}
    for name in RESOLVED:  # the words of one value
        value = (environment.get("resolved") or {}).get(name.removeprefix("trainer."))
        allowed.setdefault(name, []).extend(["auto", value])
    for _, change in read_changes(environment):
        allowed.setdefault(change.what, []).append(change.now)
    found = {each.fold: each for each in map(_read, sorted(run.glob(f"fold-*/{TRAINED_ON}")))}
    wrong = {
        fold: [name for name in {**expected, **each.values}
               if each.values.get(name) not in allowed.get(name, [None])]
        for fold, each in found.items()
    }  # fmt: skip
    right = next((found[fold] for fold in wrong if not wrong[fold]), None)
    problems = [
        f"run {run}: fold {fold} was not trained as the run says: "
        f"{'; '.join(_shown(name, found[fold], right, expected) for name in names)}. Restore what "
        f"was changed, or remove {fold_folder(run, fold)} and rerun the run's command."
        for fold, names in wrong.items()
        if names
    ]
    if problems:
        raise InputError(problems)
    return found


def check_encoder(
    run: Path, trained: FeaturesOf, file: Path, encoder: str | None, allow_unknown: bool
) -> None:
    """Raise InputError unless the vectors in `file` are of the encoder that `run` learned from."""
    if encoder and trained.encoder:
        if encoder != trained.encoder:
            raise InputError(
                f"features {file}: made by the encoder '{encoder}', but those that {run} was "
                f"trained on by '{trained.encoder}'. Make them with the same encoder."
            )
    elif sha256(file) != trained.features_file and not allow_unknown:
        raise InputError(
            f"features {file}: not the file that {run} was trained with, and one of the two does "
            f"not say which encoder made it. Write it into both (docs/data.md), or set "
            f"allow_unknown_encoder=true if it is the same."
        )


def differing_tables(one: Path, other: Path) -> list[str]:
    """Return the columns of the clinical table that two runs were trained on with other values."""
    first = [sorted(run.glob(f"fold-*/{TRAINED_ON}"))[:1] for run in (one, other)]
    tables = [_read(path).table for paths in first for path in paths]
    return differing_columns(*tables) if len(tables) == 2 else []


def _shown(
    name: str, trained: TrainedOn, right: TrainedOn | None, expected: Mapping[str, Any]
) -> str:
    if name == DATA:
        columns = differing_columns(trained.table, right.table) if right else []
        return f"other values of {', '.join(columns)}" if columns else "other table or images"
    if name in (FOLDS, WEIGHTS):
        return f"other {name}"
    was, now = (quoted(to_override(each.get(name)), 60) for each in (trained.values, expected))
    return f"{name} was {was}, must be {now}"


def _read(path: Path) -> TrainedOn:
    advice = f"remove {path.parent} and rerun the run's command to train this fold again"
    try:
        found = TrainedOn.read(read_mapping(path, advice))
        if path.parent.name != f"fold-{found.fold}":
            raise InputError(f"is of fold {found.fold}")
        return found
    except InputError as error:
        raise InputError(f"{path}: {error.problems[0]}; {advice}") from None


def check_overrides(changes: Mapping[str, Any]) -> None:
    """Raise InputError for a change, by section, of what decides how a model reads a patient."""
    keys = [key for key, _ in all_leaves(changes) if "." in key]
    if (changes.get("data") or {}).get("layout") == "mil_table":
        raise InputError("data.layout=mil_table: comes from the run; it is kaggle or table here")
    if wrong := [key for key in keys if not in_groups(key, MAY_DIFFER)]:
        raise InputError(
            f"{', '.join(wrong)}: comes from the run, whose models were trained with it; leave it "
            f"out. What may differ: {', '.join(MAY_DIFFER)}."
        )
