"""From raw runs to medians, ratios within a round, and hours."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from benchmarks.speed.comparison import Run
from benchmarks.speed.estimate import hours

PAIRS = (("lymphoml", "reference"), ("lymphoml", "plain"), ("plain", "reference"))
Number = Callable[[Run], float | None]


def training(run: Run) -> float | None:
    return _median(run.measured.answer.training)


def inference(run: Run) -> float | None:
    return _median(run.measured.answer.inference)


def of_steps(runs: Iterable[Run]) -> float | None:
    """Images a second of a sweep's condition, over the steps of all its rounds."""
    steps = [seconds / run.condition.bag for run in runs for seconds in run.measured.answer.steps]
    return 1 / median(steps) if steps else None


def medians(runs: list[Run], variant: str) -> dict[str, float | None]:
    """Over the rounds. The first step is that of rounds which found the images decoded."""
    mine = [run for run in runs if run.variant == variant]
    warm = [run for run in mine if run.round > 0]
    return {
        "training_images_per_second": _median(map(training, mine)),
        "inference_images_per_second": _median(map(inference, mine)),
        "peak_mib": _median(run.measured.peak_mib for run in mine),
        "cuda_peak_mib": _median(run.measured.answer.cuda_peak_mib for run in mine),
        "first_step_seconds": _median(run.measured.first_step_seconds for run in warm),
    }


def ratio(runs: list[Run], number: Number, above: str, below: str) -> dict[str, float] | None:
    """The median over rounds of `above / below` within a round, lowest and highest beside it."""
    values = {(run.round, run.variant): number(run) for run in runs}
    ratios = [
        top / bottom
        for (number_, variant), top in values.items()
        if variant == above and top and (bottom := values.get((number_, below)))
    ]
    if not ratios:
        return None
    return {"median": median(ratios), "low": min(ratios), "high": max(ratios)}


def ratios(runs: list[Run]) -> dict[str, dict[str, Any]]:
    return {
        name: {f"{above}/{below}": ratio(runs, number, above, below) for above, below in PAIRS}
        for name, number in (("training", training), ("inference", inference))
    }


def paper_hours(runs: list[Run], variant: str) -> float | None:
    """The report's table at the comparison's resolution, decoding and starts included."""
    mine = [run for run in runs if run.variant == variant]
    known = medians(runs, variant)
    speed, inferred = known["training_images_per_second"], known["inference_images_per_second"]
    start = known["first_step_seconds"]
    if speed is None or inferred is None or start is None:
        return None
    decode = 0.0
    cold = [run.measured.first_step_seconds for run in mine if run.round == 0]
    if variant != "reference" and cold and cold[0] is not None:
        # The reference decodes in every epoch, and its speed contains it.
        condition = mine[0].condition
        decode = max(0.0, cold[0] - start) / (condition.patients * condition.bag)
    return hours(speed, inferred, start, decode)


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
