"""Write docs/poolings.md: which poolings keep the assumptions of multiple-instance learning.

python -m benchmarks.mil_unit_tests --out docs/poolings.md
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from benchmarks.mil_unit_tests.bags import UNIT_TESTS, digit_bags
from benchmarks.mil_unit_tests.trial import Effort, Result, try_pooling

POOLINGS = Path(__file__).parents[2] / "conf" / "model" / "pooling"
INTRODUCTION = """\
# Which poolings keep the assumptions of multiple-instance learning

Written by `python -m benchmarks.mil_unit_tests --seeds {seeds} --bags {bags} --steps {steps}`.
Every number is an AUROC, the mean of {seeds} seeds.

The unit tests of Raff and Holt 2023 train on bags in which a decoy also predicts the label, and
test on bags in which the decoy is reversed. `single_concept`: one positive instance makes a bag
positive; the decoy is a poison in negative bags. `two_concepts`: both concepts must be present;
poisoned likewise. `false_frequency`: the decoy is how often a concept is present. A cell is the
AUROC in test, and in brackets that on bags drawn as in training. *Violates*: learned, and below 1/2
in test. *Not learned*: below 0.6 on bags drawn as in training. A linear layer follows each pooling,
except those of scores (`dim` 1).

Violating is no fault where reactive cells are evidence against a tumour, as they may be here; it is
one where a single malignant cell should decide.

`digits`: bags of scikit-learn's digits, positive where one is a nine. `instances`: how well weights
or scores separate the nines from the other digits of a positive bag.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mil_unit_tests", description=(
        "Train every pooling on bags with known instance labels."
    ))  # fmt: skip
    names = sorted(path.stem for path in POOLINGS.glob("*.yaml"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="POOLING")
    parser.add_argument("--seeds", type=int, default=3, help="of bags and weights, averaged")
    parser.add_argument("--bags", type=int, default=500, help="of training; half as many of test")
    parser.add_argument("--steps", type=int, default=300, help="of training, 32 bags each")
    parser.add_argument("--out", type=Path, default=Path("runs/poolings.md"), help="Markdown")
    options = parser.parse_args()
    if options.seeds < 1 or options.bags < 40 or options.steps < 1:
        parser.error("seeds and steps must be >= 1, bags >= 40")
    effort = Effort(options.bags, options.bags // 2, options.steps)
    lines = [INTRODUCTION.format(seeds=options.seeds, bags=options.bags, steps=options.steps)]
    lines.append("| pooling | " + " | ".join(UNIT_TESTS) + " | digits | instances |")
    lines.append("|---" * (len(UNIT_TESTS) + 3) + "|")
    for name in options.only:
        spec = yaml.safe_load((POOLINGS / f"{name}.yaml").read_text())
        lines.append(f"| `{name}` | " + " | ".join(_cells(spec, options.seeds, effort)) + " |")
        print(lines[-1], flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")


def _cells(spec: dict[str, Any], seeds: int, effort: Effort) -> list[str]:
    def mean(draw: Any) -> Result:
        results = [try_pooling(spec, draw, seed, effort) for seed in range(seeds)]
        return Result(*(
            None if None in scores else sum(scores) / seeds
            for scores in zip(*results, strict=True)
        ))  # type: ignore[arg-type]  # fmt: skip

    digits = mean(digit_bags)
    instances = "" if digits.instances is None else f"{digits.instances:.3f}"
    return [mean(draw).verdict() for draw in UNIT_TESTS.values()] + [
        f"{digits.test:.3f}",
        instances,
    ]


if __name__ == "__main__":
    main()
