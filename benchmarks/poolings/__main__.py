"""`python -m lymphoml poolings`: every pooling put to the unit tests of its field."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from lymphoml.cli.config import CONF
from lymphoml.cli.options import option
from lymphoml.core.errors import InputError


@dataclass
class Poolings:
    """Which poolings keep the assumptions of multiple-instance learning, and find instances."""

    only: list[str] = option([], "some of conf/model/pooling; all by default")
    seeds: int = option(3, "bags and weights of so many seeds, averaged")
    bags: int = option(1000, "of training; half as many are tested")
    steps: int = option(600, "of training, 32 bags each")
    out: str = option("runs/poolings.md", "Markdown")


def run(options: Poolings) -> None:
    paths = {path.stem: path for path in sorted((CONF / "model" / "pooling").glob("*.yaml"))}
    unknown = sorted(set(options.only) - set(paths))
    if unknown:
        raise InputError(f"only={', '.join(unknown)}: allowed are {', '.join(paths)}")
    for key, least in (("seeds", 1), ("bags", 40), ("steps", 1)):
        if getattr(options, key) < least:
            raise InputError(f"{key}={getattr(options, key)}: must be {least} or more")

    from benchmarks.poolings.table import tabulate
    from benchmarks.poolings.trial import Effort
    from lymphoml.core.files import write_text

    chosen = options.only or list(paths)
    effort = Effort(options.bags, options.bags // 2, options.steps)
    command = f"seeds={options.seeds} bags={options.bags} steps={options.steps}"
    specs = {name: yaml.safe_load(paths[name].read_text()) for name in chosen}
    write_text(Path(options.out), tabulate(specs, options.seeds, effort, command))
    print(options.out)
