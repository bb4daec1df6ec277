"""Who of a cohort is known to a model: trained on under the same id, as the same person or images.

A run keeps digests of persons and of a sample of each patient's images or feature vectors. Those of
persons are made with the user's secret key: birth dates are few, and whoever had the run folder
alone could try them all. So another user's models know a person by images only.
"""

import hmac
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.user_key import key_name, read_key
from lymphoml.data.cache import hash_images
from lymphoml.data.cohort import Cohort
from lymphoml.data.settings import DataConfig
from lymphoml.features.instance_store import open_instance_store
from lymphoml.runs.trained_on import PatientDigests, TrainedOn

SAMPLE = 16  # images a patient


def digest_patients(
    data: DataConfig, cohort: Cohort, salt: str, with_images: bool
) -> dict[str, PatientDigests]:
    """Return a digest of each patient's person, where known, and of every image or its features."""
    persons, key = cohort.origin["person"].loc[cohort.table.index], read_key()
    by_person = {each: digest_person(each, key, salt) for each in persons.dropna().unique()}
    bags: dict[str, Sequence[bytes]] = dict.fromkeys(cohort.table.index, ())
    if with_images and data.feature_file:
        store: Any = open_instance_store(data, cohort.images)[0]
        bags = {patient: [row.tobytes() for row in store.bag(patient)] for patient in bags}
    elif with_images:
        bags = {source.patient: source.digests for source in hash_images(cohort.images)}
    return {
        patient: PatientDigests(
            person=by_person.get(persons[patient]),
            images=[sha256(salt.encode() + each).hexdigest()[:12] for each in bags[patient]],
        )
        for patient in cohort.table.index
    }


def without_persons(cohort: Cohort) -> Cohort:
    """Return the cohort as if nobody knew whose the records are."""
    return replace(cohort, origin=cohort.origin.assign(person=np.nan))


def digest_person(person: str, key: bytes, salt: str) -> str:
    """Return what stands for a person in a run of this salt, under a user's key."""
    return hmac.digest(key, f"{salt} {person}".encode(), "sha256").hex()[:24]


def sample_images(patients: Mapping[str, PatientDigests]) -> dict[str, PatientDigests]:
    """Return the same with a few of each patient's images, none that another patient has too."""
    owners = Counter(image for each in patients.values() for image in set(each.images))
    return {
        patient: PatientDigests(
            person=each.person,
            images=sorted(image for image in set(each.images) if owners[image] == 1)[:SAMPLE],
        )
        for patient, each in patients.items()
    }


class KnownTo(NamedTuple):
    """Which fold's model (column) was trained on which patient (row), by how they are known."""

    id: pd.DataFrame
    person: pd.DataFrame
    images: pd.DataFrame

    def __or__(self, other: "KnownTo") -> "KnownTo":  # of an ensemble's members
        return KnownTo(*(one | another for one, another in zip(self, other, strict=True)))


def known_to(
    trained_on: Mapping[int, TrainedOn], data: DataConfig, cohort: Cohort, with_images: bool
) -> KnownTo:
    """Return which patients of `cohort` the models of these folds were trained on."""
    ids = cohort.table.index
    tables = KnownTo(*(pd.DataFrame(False, ids, list(trained_on)) for _ in range(3)))
    by_salt: dict[str, dict[str, PatientDigests]] = {}
    given = data.person_column is not None
    if any((each.values.get("data.person_column") is not None) != given
           for each in trained_on.values()):  # fmt: skip
        cohort = without_persons(cohort)
    if any(each.key != key_name() for each in trained_on.values()):
        print("the run was trained with another user's key: persons are known by id or images only")
    for fold, trained in trained_on.items():
        if trained.salt not in by_salt:
            by_salt[trained.salt] = digest_patients(data, cohort, trained.salt, with_images)
        new, old = by_salt[trained.salt], trained.patients.values()
        persons = {each.person for each in old} - {None}
        images = {image for each in old for image in each.images}
        tables.id[fold] = ids.isin(trained.patients)
        tables.person[fold] = [new[each].person in persons for each in ids]
        tables.images[fold] = [not images.isdisjoint(new[each].images) for each in ids]
    everybody = [each for trained in trained_on.values() for each in trained.patients.values()]
    if any(each.person for each in everybody) and cohort.origin["person"].loc[ids].isna().all():
        print(
            "persons cannot be recognised in this cohort, as those of the run are: known by id or "
            "images only"
        )
    return tables


def without_trained(probabilities: pd.DataFrame, known: KnownTo, own: bool) -> pd.DataFrame:
    """Return NaN where a fold's model was trained on the patient; print who is known to the run.

    A patient known to every model keeps all predictions. `own` says whether the cohort is the
    run's, where ids decide.
    """
    by_id, other = known.id.any(axis=1), known.person | known.images
    if own:
        other[by_id] = False
    trained = known.id | other
    everyone = trained.all(axis=1)
    trained[everyone] = known.id[everyone]
    others = other.any(axis=1) & ~by_id
    if count := int(others.sum()):
        persons, images = (int(table[others].any(axis=1).sum()) for table in known[1:])
        print(
            f"{count} of these {len(other)} patients are known to the run under another id "
            f"({persons} as persons, {images} by their images): each is predicted by the models "
            f"not trained on that person"
        )
    if everyone.any():
        print(
            f"{everyone.sum()} of these patients: every model was trained on the person, so their "
            f"predictions say nothing about new patients"
        )
    if by_id.any() and not own:
        print(
            f"{by_id.sum()} of these patients have ids of the run, in a table that is not the "
            f"run's: each is predicted by the models not trained on that id; give other persons "
            f"other ids"
        )
    return probabilities.mask(trained)


def refuse_known(known: KnownTo) -> None:
    """Raise InputError where any model was trained on one of the persons or images.

    An id alone does not count: two hospitals may give the same.
    """
    persons, images = (table.any(axis=1) for table in known[1:])
    if (refused := persons | images).any():
        raise InputError(
            f"{refused.sum()} of these {len(refused)} patients are among those that the run was "
            f"trained on ({persons.sum()} as persons, {images.sum()} by their images), such as "
            f"{', '.join(refused.index[refused][:3])}. Leave them out of the cohort's table."
        )
