"""Arithmetic: the report's table, medians, ratios, and what a larger bag will need."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed import summary
from benchmarks.speed.estimate import PAPER, Table, hours
from benchmarks.speed.profiles import choose
from benchmarks.speed.run import run
from benchmarks.speed.sweeps import expected_mib
from lymphoml.core.errors import InputError


def test_the_reports_table():
    assert PAPER.training_images == 8_609_920  # each image in 4 folds of 5, 20 epochs, 8 times
    assert PAPER.validation_images == 2_152_480


def test_hours_by_hand():
    small = Table(images=10, folds=5, epochs=2, configurations=3)
    # 240 images trained on, 60 validated, 3 starts, 10 decoded: 120 + 10 + 30 + 20 seconds
    assert hours(2.0, 6.0, 10.0, 2.0, table=small) == pytest.approx(180 / 3600)


def test_hours_are_the_training_alone_where_the_rest_costs_nothing():
    assert hours(10.0, float("inf"), 0.0) == pytest.approx(239.164, abs=1e-3)


def test_medians_and_ratios_are_of_rounds(compared):
    known = summary.medians(compared, "lymphoml")
    assert known["training_images_per_second"] == 60  # of 40 and 80
    assert known["first_step_seconds"] == 5  # of the warm round alone
    pairs = summary.ratios(compared)
    assert pairs["training"]["lymphoml/reference"] == {"median": 4, "low": 4, "high": 4}
    assert pairs["inference"]["lymphoml/plain"]["median"] == pytest.approx(40 / 45)


def test_a_round_without_one_of_the_two_gives_no_ratio(compared):
    alone = [run for run in compared if run.variant == "plain"]
    assert summary.ratio(alone, summary.training, "lymphoml", "plain") is None


def test_decoding_once_is_counted_once_and_only_for_those_who_do(compared):
    images = compared[0].condition.bag * compared[0].condition.patients
    for variant, decode in (("lymphoml", 3 / images), ("reference", 0.0)):
        known = summary.medians(compared, variant)
        speeds = known["training_images_per_second"], known["inference_images_per_second"]
        assert summary.paper_hours(compared, variant) == pytest.approx(hours(*speeds, 5.0, decode))


def test_memory_is_foretold_by_the_two_largest_smaller_bags(swept):
    condition = next(run.condition for run in swept if run.condition.bag == 256)
    assert expected_mib("plain", condition, swept) == pytest.approx(500 + 10 * 256)
    elsewhere = replace(condition, size=condition.size + 1)
    assert expected_mib("plain", elsewhere, swept) is None


def test_a_sweep_changes_one_thing(profile):
    for name, conditions in profile.sweeps().items():
        values = [one.describe() for one in conditions]
        changed = {key for key in values[0] if len({value[key] for value in values}) > 1}
        assert changed == {name}


def test_wrong_options_are_refused_by_name():
    with pytest.raises(InputError, match="profile=fast: allowed are quick, full"):
        choose("fast", True)
    with pytest.raises(InputError, match="rounds=1: give at least 2"):
        choose("quick", True, rounds=1, size=None)
    assert choose("quick", False, size=64).condition.size == 64
    with pytest.raises(InputError) as refused:
        run("quick", choose("quick", False), Path(), 0, "16-mixed", "cpu", -1.0, [])
    assert [line.partition("=")[0] for line in refused.value.problems] == [
        "precision", "threads", "memory_gib",
    ]  # fmt: skip
