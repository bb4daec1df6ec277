"""W&B's client: imported only where it is used, online where its server answers, never fatal."""

import atexit
import functools
import logging
import os
import shutil
import ssl
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError, RuntimeFailure, one_line

OFFLINE = "offline from here on, for `wandb sync` later"
PROJECT = "lymphoml"  # where neither a key nor the environment names one
WAIT_S, FINISH_S = 10, 60  # for an answer of the server, and for what a run still has to send


def resolve_mode(mode: str) -> str:
    """Return offline, online or disabled; `auto` is online with an API key and a server.

    Raises InputError for a malformed key or WANDB_MODE, and for `online` without a key;
    RuntimeFailure for `online` without a server.
    """
    chosen = (os.environ.get("WANDB_MODE") or "auto") if mode == "auto" else mode
    if chosen in ("offline", "disabled"):
        return chosen
    if chosen not in ("auto", "online"):
        raise InputError(f"WANDB_MODE={chosen}: must be online, offline or disabled")
    wandb = client()
    try:
        has_key = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        raise InputError(f"W&B: {error}") from None
    if chosen == "online" and not has_key:
        raise InputError(
            "logger.mode=online: W&B has no API key or is switched off. Run `wandb login`, set "
            "WANDB_API_KEY, or set logger.mode=offline."
        )
    reason = connection_error() if has_key else None
    if reason and mode == "online":
        raise RuntimeFailure(f"logger.mode=online: {reason}. Set logger.mode=auto or offline.")
    if reason:
        print_once(f"W&B: {reason}; {OFFLINE}")
    return "online" if has_key and not reason else "offline"


def connection_error() -> str | None:
    """Return why W&B's server does not answer within seconds; None where it does."""
    url = client().setup().settings.base_url
    try:
        urllib.request.urlopen(url, timeout=WAIT_S).close()
    except OSError as error:
        # An error of HTTP is an answer, and W&B has certificates of its own.
        if not isinstance(getattr(error, "reason", error), str | ssl.SSLError):
            return f"{url} does not answer ({getattr(error, 'reason', error)})"
    return None


@contextmanager
def best_effort() -> Iterator[None]:
    """Print what W&B raises: no training ends for it."""
    try:
        yield
    except Exception as error:  # of whatever kind: its own process may be gone
        print_once(f"W&B: {one_line(error)} What was logged is in the run folder, for `wandb sync`")


@functools.cache
def print_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@functools.cache
def own_cache() -> Path:
    cache = tempfile.mkdtemp(prefix="wandb-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    return Path(cache)


@functools.cache
def client() -> Any:
    """Return the wandb module, imported only where W&B is in use."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # stack traces contain paths
    if "WANDB_CACHE_DIR" not in os.environ:  # else its service logs under the home folder
        os.environ["WANDB_CACHE_DIR"] = str(own_cache())
    import wandb

    logging.getLogger("wandb").setLevel(logging.CRITICAL)  # a file in the run that contains paths
    settings = wandb.Settings(
        silent=True, console="off", host="", program="train.py", save_code=False,
        disable_code=True, disable_git=True, symlink=False, x_disable_meta=True,
        x_disable_stats=True, x_disable_machine_info=True, x_save_requirements=False,
        init_timeout=3 * WAIT_S, finish_timeout=FINISH_S, finish_timeout_raises=True,
    )  # fmt: skip
    try:
        wandb.setup(settings)
    except Exception as error:  # a malformed variable, or a process that does not start
        reason = one_line(error)[:200]
        raise InputError(f"W&B does not start ({reason}). Set logger=none to do without.") from None
    return wandb
