"""What a model was learned from: asked by every command that joins models, tables and features."""

from collections.abc import Iterator, Mapping
from typing import Any

from lymphoml.core.errors import InputError

# What a prediction may set for another cohort or machine; all else comes from the run.
OF_COHORT = ("name", "root", "table", "image_dir", "image_pattern", "id_column", "label_column",
             "label_values", "columns", "date_formats", "reference_date", "person_column",
             "site_column", "follow_links", "features.path", "cache", "num_workers",
             "timeout")  # fmt: skip
OF_MACHINE = ("accelerator", "precision", "num_threads", "encoder_chunk_size",
              "enable_progress_bar")  # fmt: skip
MAY_DIFFER = [f"data.{key}" for key in OF_COHORT] + [f"trainer.{key}" for key in OF_MACHINE]


def check_overrides(changes: Mapping[str, Any]) -> None:
    """Raise InputError for a change, by section, of what decides how a model reads a patient."""
    wrong = [
        key
        for key in _keys(changes)
        if not any(f"{key}.".startswith(f"{each}.") for each in MAY_DIFFER)
    ]
    if wrong:
        raise InputError(
            f"{', '.join(wrong)}: comes from the run, whose models were trained with it; leave it "
            f"out. What may differ: {', '.join(MAY_DIFFER)}."
        )


def _keys(values: Any, key: str = "") -> Iterator[str]:
    if isinstance(values, Mapping) and values:
        for part, value in values.items():
            yield from _keys(value, f"{key}.{part}".lstrip("."))
    elif values != {} or "." in key:
        yield key
