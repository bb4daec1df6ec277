import pytest

from benchmarks.speed.comparison import Run
from benchmarks.speed.jobs import VARIANTS, Answer, Condition, Job
from benchmarks.speed.measuring import Measurement
from benchmarks.speed.profiles import choose

SPEED = {"reference": 10.0, "plain": 45.0, "lymphoml": 40.0}


@pytest.fixture
def profile():
    return choose("quick", True, rounds=2)


@pytest.fixture
def job(profile, tmp_path):
    return Job("reference", profile.condition, str(tmp_path), str(tmp_path), 2, "bf16-mixed",
               passes=1)  # fmt: skip


@pytest.fixture
def compared(profile):
    """Two rounds: the second twice as fast throughout, and 3 s sooner at the first step."""
    return [
        Run(number, variant, profile.condition, Measurement(
            Answer(training=[speed * (1 + number)], inference=[4 * speed * (1 + number)]),
            first_step_seconds=8.0 - 3 * number, seconds=20.0, peak_mib=1000.0, others=0.1,
        ))
        for number in (0, 1) for variant, speed in SPEED.items()
    ]  # fmt: skip


@pytest.fixture
def swept(profile):
    """Memory in proportion to the bag; the largest bag does not fit the two plain recipes."""
    conditions = dict.fromkeys(one for some in profile.sweeps().values() for one in some)
    return [
        Run(0, variant, condition, fake_step(variant, condition))
        for condition in conditions for variant in VARIANTS
    ]  # fmt: skip


def fake_step(variant: str, condition: Condition) -> Measurement:
    if variant != "lymphoml" and condition.bag == 256:
        return Measurement(Answer(), obstacle="does not fit: 9000 MiB expected from smaller bags")
    steps = [condition.bag / SPEED[variant]] * 3
    return Measurement(Answer(steps=steps), 4.0, 9.0, 500.0 + 10 * condition.bag)
