"""Damaged results of a finished run."""

import json

import pytest

from lymphoml.core.errors import InputError
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, configuration

DAMAGED = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "without the score": lambda text: json.dumps(json.loads(text) | {"balanced_accuracy": None}),
    "with a text for a score": lambda text: json.dumps({"balanced_accuracy": {"value": "high"}}),
    "nested": lambda text: "[" * 100_000,
    "not a number": lambda text: '{"balanced_accuracy": {"value": NaN}}',
}


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    config = configuration(cohort, folder / "cache", *CLINICAL)
    cross_validate(config, folder / "run")
    return config, folder / "run"


@pytest.mark.promise(
    "metrics.json of a finished run cut short, emptied or rewritten, and the same command again",
    "one line that names the file and says what to do; without it the same scores are made again",
)
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_one_line(damage, finished):
    config, run = finished
    path = run / "metrics.json"
    good = path.read_text()
    path.write_text(DAMAGED[damage](good))
    with pytest.raises(InputError, match=r"metrics\.json .*remove it") as caught:
        cross_validate(config, run)
    assert len(caught.value.problems) == 1
    path.unlink()
    cross_validate(config, run)
    assert path.read_text() == good
