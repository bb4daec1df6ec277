"""What should tell nothing of a label, and may: how a patient was filed, counted and lit."""

import re

import numpy as np
import pandas as pd

from lymphoml.audit.images import CHANNELS
from lymphoml.data.cohort import Cohort

LUMA = [0.299, 0.587, 0.114]  # of red, green and blue, ITU-R BT.601


def shortcut_fields(cohort: Cohort, records: pd.DataFrame) -> pd.DataFrame:
    """A column of numbers for each field, indexed by patient; NaN where a patient has none.

    Brightness and colour are means over a patient's usable images, each weighing the same. The
    file number is the lowest: any other would tell the bag size again.
    """
    patients = cohort.table.index
    fields = _date_formats(cohort)
    fields["row order"] = cohort.origin["row"]
    fields["bag size"] = [len(cohort.images[patient]) for patient in patients]
    fields["file number"] = [
        min((_number(path.stem) for path in cohort.images[patient]), default=np.nan)
        for patient in patients
    ]
    fields["id number"] = [_number(patient) for patient in patients]
    fields["table (train or test)"] = cohort.origin["table"]
    means = records[["patient", *CHANNELS]].astype(dict.fromkeys(CHANNELS, float))
    means = means.groupby("patient").mean().reindex(patients)
    fields["mean brightness"] = means @ np.array(LUMA)
    for channel in CHANNELS:
        fields[f"mean {channel}"] = means[channel]
    return fields.astype("float64")


def _date_formats(cohort: Cohort) -> pd.DataFrame:
    """Of two formats one field, of more a field each; one is a constant."""
    fields = pd.DataFrame(index=cohort.table.index)
    for name in map(str, cohort.origin):
        if name.endswith(" format"):
            written = cohort.origin[name]
            formats = sorted(written.dropna().unique())
            for separator in formats if len(formats) > 2 else formats[:1]:
                is_it = written.eq(separator).astype("float64")
                fields[f"date format ({separator} in {name[:-7]})"] = is_it.where(written.notna())
    return fields


def _number(name: str) -> float:
    """The last digits in a name; NaN without any."""
    digits = re.findall(r"[0-9]+", name)
    return float(digits[-1]) if digits else np.nan
