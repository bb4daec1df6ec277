"""What `quick` and `full` measure, and what of it an option may change."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.speed.jobs import Condition
from lymphoml.core.errors import InputError


@dataclass(frozen=True)
class Profile:
    condition: Condition  # of the comparison
    rounds: int  # of the comparison: a b c, a b c, ...
    epochs: int  # timed, a round
    sweep_rounds: int  # the first of two finds no decoded images, the second does
    steps: int  # timed, a condition of the sweeps; a quarter of them for the largest bags
    base: Condition  # of the sweeps, each of which changes one thing of it
    few: int  # patients of the sweep over bags
    bags: tuple[int, ...]
    patients: tuple[int, ...]
    workers: tuple[int, ...]
    sizes: tuple[int, ...]

    def sweeps(self) -> dict[str, list[Condition]]:
        """The conditions of each sweep, which is named as the field it changes."""
        few = replace(self.base, patients=self.few)
        return {
            "bag": [replace(few, bag=bag) for bag in self.bags],
            "patients": [replace(self.base, patients=patients) for patients in self.patients],
            "workers": [replace(self.base, workers=workers) for workers in self.workers],
            "size": [replace(self.base, size=size) for size in self.sizes],
        }

    def steps_of(self, condition: Condition) -> int:
        return max(2, self.steps // 4) if condition.bag >= LARGE_BAG else self.steps


LARGE_BAG = 500  # images
PROFILES = {
    "quick": Profile(
        condition=Condition(size=112, bag=24, patients=15), rounds=3, epochs=1, sweep_rounds=1,
        steps=8, base=Condition(size=32, bag=16, patients=15), few=15,
        bags=(16, 64, 256), patients=(15, 500), workers=(0, 1), sizes=(32, 64),
    ),
    "full": Profile(
        condition=Condition(size=224, bag=66, patients=15), rounds=3, epochs=1, sweep_rounds=2,
        steps=8, base=Condition(size=64, bag=16, patients=50), few=15,
        bags=(16, 66, 264, 1000, 5000), patients=(50, 500, 5000), workers=(0, 1, 2),
        sizes=(32, 64, 112, 224),
    ),
}  # fmt: skip


def choose(name: str, sweeps: bool, **changes: int | None) -> Profile:
    """A profile with the comparison's size, bag, patients, rounds or epochs changed."""
    problems = list(_problems(name, changes))
    if problems:
        raise InputError(problems)
    profile = PROFILES[name]
    given = {key: value for key, value in changes.items() if value is not None}
    condition = {key: given[key] for key in ("size", "bag", "patients") if key in given}
    profile = replace(
        profile,
        condition=replace(profile.condition, **condition),
        rounds=given.get("rounds", profile.rounds),
        epochs=given.get("epochs", profile.epochs),
    )
    if not sweeps:
        profile = replace(profile, bags=(), patients=(), workers=(), sizes=())
    return profile


FEWEST = {"size": 16, "bag": 1, "patients": 15, "rounds": 2, "epochs": 1}


def _problems(name: str, changes: dict[str, int | None]) -> Iterator[str]:
    if name not in PROFILES:
        yield f"profile={name}: allowed are {', '.join(PROFILES)}"
    for key, value in changes.items():
        if value is not None and value < FEWEST[key]:
            yield f"{key}={value}: give at least {FEWEST[key]}"
