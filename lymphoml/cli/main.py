"""`python -m lymphoml COMMAND key=value ...`: everything but training.

Each command is a dataclass of its options and a function, in a file of `commands`; what is slow to
import is imported inside the function.
"""

import sys
from collections.abc import Callable
from typing import Any

from lymphoml.cli.commands import (
    audit,
    compare,
    ensemble,
    features,
    instances,
    predict,
    pretrain,
    report,
    submit,
    synthesize,
    triage,
)
from lymphoml.cli.entry import run_cli
from lymphoml.cli.options import parse, print_help
from lymphoml.core.errors import InputError

COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "audit": (audit.Audit, audit.run),
    "features": (features.Features, features.run),
    "pretrain": (pretrain.Pretrain, pretrain.run),
    "synthesize": (synthesize.Synthesize, synthesize.run),
    "predict": (predict.Predict, predict.run),
    "submit": (submit.Submit, submit.run),
    "report": (report.Report, report.run),
    "triage": (triage.Triage, triage.run),
    "compare": (compare.Compare, compare.run),
    "ensemble": (ensemble.Ensemble, ensemble.run),
    "instances": (instances.Instances, instances.run),
}


def main(words: list[str] | None = None) -> None:
    run_cli(lambda: _run(sys.argv[1:] if words is None else words))


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print("usage: python -m lymphoml COMMAND key=value ...\n")
        for name, (options, _) in COMMANDS.items():
            print(f"  {name:12} {options.__doc__}")
        print("\npython -m lymphoml COMMAND --help lists its keys. Training is train.py.")
        return
    name, *rest = words
    if name not in COMMANDS:
        raise InputError(f"{name}: must be one of {', '.join(COMMANDS)}")
    options, run = COMMANDS[name]
    if {"-h", "--help"} & set(rest):
        print_help(options)
    else:
        run(parse(options, rest))
