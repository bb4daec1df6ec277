"""How a process ends: bad input in one line, an exit code."""

import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from lymphoml.cli.environment import set_up_process
from lymphoml.core.cluster import check_single_task
from lymphoml.core.errors import (
    InputError,
    UserFacingError,
    as_user_error,
    one_line,
    quoted,
    unknown_key,
)

EVALUATING = " while evaluating "  # as Hydra writes it, which these also are
NOT_IN_CONF = re.compile("Could not override '([^']*)'")
# Mappings of the user's own, and arguments of a network that have a default.
OPEN = ("data.columns.", "data.label_values.", "data.date_formats.", "model.encoder.")
OF_HYDRA = ("full_key:", "object_type=", "reference_type=", "To append to your ")


def run_cli(main: Callable[[], Any]) -> None:
    """Run an entry point: a line per problem, exit code 2 for bad input, 1 for a failed machine."""
    try:
        set_up_process()
        check_single_task()
        main()
    except Exception as error:
        readable = _hydra_error(error) or as_user_error(error)
        if readable is None:
            raise
        if not getattr(error, "printed", False):
            print_error(readable, getattr(error, "prefix", ""))
        sys.exit(readable.code)


def print_error(error: Exception, prefix: str = "") -> None:
    for problem in error.problems if isinstance(error, UserFacingError) else [repr(error)]:
        print(f"error: {prefix}{problem}", file=sys.stderr)


def _hydra_error(error: Exception) -> InputError | None:
    """Return what Hydra finds wrong with the command line and the configuration files."""
    if "hydra" not in sys.modules or isinstance(error, UserFacingError):
        return None
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, OverrideParseException):
        for line in str(error).splitlines():
            if EVALUATING in line:  # a function of the grammar
                return InputError(f"{quoted(error.override, 200)}: {line.partition(EVALUATING)[2]}")
        return InputError(
            f"{quoted(error.override, 200)}: cannot be read as key=value; quote a value that has "
            f"= , or brackets: \"key='value'\""
        )
    if isinstance(error, HydraException) and (found := NOT_IN_CONF.match(str(error))):
        from lymphoml.cli.config import known_keys

        key = getattr(error.__cause__, "full_key", None) or found[1]
        adds = f"; +{key}=... adds it" if key.startswith(OPEN) else ""
        known = known_keys()
        return InputError(
            f"{key}: quote {key.rpartition('.')[2]}"
            if key in known
            else unknown_key(key, known) + adds
        )
    of_group = isinstance(error, ValueError) and str(error).startswith("Config group override")
    if isinstance(error, HydraException | OmegaConfBaseException) or of_group:
        lines = [each for each in _chain(error) if not each.startswith(OF_HYDRA)]
        return InputError(" ".join(dict.fromkeys(lines)))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    by_hydra = frames[-1].f_globals["__name__"].startswith(("hydra.", "omegaconf."))
    if by_hydra and not isinstance(error, OSError | MemoryError):
        return InputError(
            f"the configuration cannot be composed ({one_line(error)}); a key below a list is a "
            f"number, and a list is set whole, as key=[a,b]"
        )
    return None


def _chain(error: BaseException | None) -> Iterator[str]:
    """Yield the lines of an error and of its causes."""
    while error is not None:
        text = str(error).partition("Config search path:")[0]
        yield from filter(None, (line.strip() for line in text.splitlines()))
        error = error.__cause__
