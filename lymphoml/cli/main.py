"""`python -m lymphoml COMMAND key=value ...`; each command imports what is slow as it executes."""

import sys
from typing import Any

from lymphoml.cli import cohort_commands, model_commands, predict_commands, run_commands
from lymphoml.cli.entry import run_cli
from lymphoml.cli.options import parse, print_help
from lymphoml.core.errors import InputError

_MODULES = (cohort_commands, model_commands, predict_commands, run_commands)
_FOUND = {name: each for module in _MODULES for name, each in vars(module).items()}
COMMANDS: dict[str, Any] = {
    name.lower(): command for name, command in sorted(_FOUND.items()) if hasattr(command, "execute")
}


def main(words: list[str] | None = None) -> None:
    run_cli(lambda: _run(sys.argv[1:] if words is None else words))


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print("usage: python -m lymphoml COMMAND key=value ...\n")
        print(f"  {'train':12} Cross-validate a configuration, or a sweep with -m, as train.py.")
        for name, command in COMMANDS.items():
            print(f"  {name:12} {command.__doc__}")
        print("\npython -m lymphoml COMMAND --help lists its keys.")
        return
    name, *rest = words
    if name == "train":
        from lymphoml.cli.train import train

        train(rest)
    elif name not in COMMANDS:
        raise InputError(f"{name}: must be one of {', '.join(COMMANDS)}")
    elif {"-h", "--help"} & set(rest):
        print_help(COMMANDS[name])
    else:
        parse(COMMANDS[name], rest).execute()
