"""`python -m benchmarks.speed`: paper's recipe, plain loop and lymphoml, side by side.

All three train ResNet18 from scratch on the same synthetic cohort, one patient a step, one of five
patients held out; a test compares their losses and predictions. To vary a condition, loop in the
shell: `for bag in 16 64 256; do python -m benchmarks.speed --bag $bag; done`.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.speed.bench import collect, compare, format_table, make_cohort
from benchmarks.speed.worker import Job
from lymphoml.core.cores import threads_per_job
from lymphoml.core.files import write_json
from lymphoml.training import hardware


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--size", type=int, default=112, help="pixels a side")
    parser.add_argument("--bag", type=int, default=24, help="images a patient")
    parser.add_argument("--patients", type=int, default=15, help="labelled")
    parser.add_argument("--rounds", type=int, default=3, help="of all three variants")
    parser.add_argument("--epochs", type=int, default=1, help="timed, a round and variant")
    parser.add_argument("--passes", type=int, default=3, help="timed, over held-out patients")
    parser.add_argument("--threads", type=int, default=threads_per_job(1), help="of one operation")
    parser.add_argument("--precision", choices=["auto", "32-true", "bf16-mixed"], default="auto")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--out", type=Path, help="JSON file of all measurements")
    parser.add_argument("overrides", nargs="*", help="more of train.py's, for lymphoml alone")
    options = parser.parse_args()
    if options.rounds < 2 or options.patients < 15:
        parser.error("rounds must be >= 2, patients >= 15")
    condition = {key: getattr(options, key) for key in ("size", "bag", "patients", "rounds")}
    with tempfile.TemporaryDirectory(prefix="lymphoml-bench-") as folder:
        cohort = make_cohort(Path(folder), options.size, [options.bag] * options.patients)
        precision = hardware.resolve_precision(options.precision, options.accelerator)
        job = Job("", str(cohort), folder, options.threads, precision, options.accelerator,
                  options.epochs, options.passes, options.overrides)  # fmt: skip
        results = collect(compare(job, options.rounds), job, condition)
    print(format_table(results))
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    main()
