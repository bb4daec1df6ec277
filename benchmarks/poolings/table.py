"""`docs/poolings.md`: which poolings keep the assumptions of multiple-instance learning."""

from typing import Any

from benchmarks.poolings.digits import digit_bags
from benchmarks.poolings.trial import Effort, Result, try_pooling
from benchmarks.poolings.unit_tests import UNIT_TESTS

LEARNED = 0.6  # an AUROC on bags drawn as in training below this is that of a model without a clue

INTRODUCTION = """\
# Which poolings keep the assumptions of multiple-instance learning

Written by `python -m lymphoml poolings {command}`. Every number is an AUROC, the mean of {seeds}
seeds.

The unit tests of Raff and Holt 2023 train on bags that a decoy tells apart as well, and test on
bags where the decoy is dihedral round. `single_concept`: one positive instance makes a bag positive,
and a poison in negative bags is the decoy. `two_concepts`: both concepts must be there; poisoned
likewise. `false_frequency`: the decoy is how often a concept is there. A cell is the AUROC in test,
and in brackets that on bags drawn as in training. *Violates*: learned, and below 1/2 in test. *No
clue*: not learned. A linear layer follows each pooling, but those of scores (`dim` 1).

Violating is no fault where reactive cells speak against a tumour, as they may here; it is one where
a single malignant cell is to decide.

`digits`: bags of scikit-learn's digits, positive where one is a nine. `instances`: how well weights
or scores tell the nines from the other digits of a positive bag.
"""


def tabulate(poolings: dict[str, dict[str, Any]], seeds: int, effort: Effort, command: str) -> str:
    """The page as Markdown; `poolings` are specifications by name, `command` the words for it."""
    draws = UNIT_TESTS | {"digits": digit_bags}
    lines = [INTRODUCTION.format(seeds=seeds, command=command)]
    lines.append("| pooling | " + " | ".join(UNIT_TESTS) + " | digits | instances |")
    lines.append("|---" * (len(draws) + 2) + "|")
    for name, spec in poolings.items():
        results = {
            test: _mean([try_pooling(spec, draw, seed, effort) for seed in range(seeds)])
            for test, draw in draws.items()
        }
        found = results["digits"].instances
        cells = [verdict(results[test]) for test in UNIT_TESTS]
        cells += [f"{results['digits'].tested:.3f}", "" if found is None else f"{found:.3f}"]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def verdict(result: Result) -> str:
    told = f"{result.tested:.2f} ({result.learned:.2f})"
    if result.learned < LEARNED:
        return f"no clue {told}"
    return f"{'violates' if result.tested < 0.5 else 'keeps'} {told}"


def _mean(results: list[Result]) -> Result:
    means: list[Any] = [
        None if None in column else sum(column) / len(column)
        for column in zip(*results, strict=True)
    ]
    return Result(*means)
