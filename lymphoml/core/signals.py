"""SIGTERM, SIGINT and SLURM's warnings end the process at once, with one line and an exit code.

Nothing is unwound: every file of ours survives `kill -9`, so it survives this. That also holds in
the middle of an import, a destructor or a C++ module, where an exception might be lost.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that the kernel sends when the parent dies
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # SLURM's, before its time limit ends a job
PATIENCE_S = 1.0  # for a terminal or pipe that takes no output


def install_signal_handlers(advice: str) -> None:
    """End on SIGTERM, SIGINT, SIGUSR1 or SIGUSR2: code 128 + number, a line with `advice`.

    Call it first, in main. A handler of a warning that was there, of a launcher that requeues the
    job, is called before the end.
    """
    owner = os.getpid()
    requeue = {each: signal.getsignal(each) for each in WARNINGS}

    def stop(number: int, frame: Any) -> None:
        code = 128 + number
        if os.getpid() == owner:
            if callable(handler := requeue.get(signal.Signals(number))):
                try:
                    handler(number, frame)
                except SystemExit as ended:
                    code = int(ended.code or 0) % 256  # which the launcher may look at
            signal.signal(signal.SIGALRM, lambda *_: os._exit(code))
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
            with suppress(Exception):  # a closed terminal, or a write that this interrupts
                os.write(2, f"{chr(10) * os.isatty(2)}stopped; {advice}\n".encode())
            with suppress(Exception):
                sys.stdout.flush()
            if os.isatty(1):
                os.write(1, SHOW_CURSOR)
        os._exit(code)

    for each in (signal.SIGINT, signal.SIGTERM, *WARNINGS):
        signal.signal(each, stop)


def end_with_parent(_: Any = None) -> None:
    """Have a worker leave all but SIGTERM to its parent, and die with it; elsewhere do nothing.

    A terminal and SLURM signal workers too, whose end the parent would take for a failure.
    """
    import ctypes
    import multiprocessing

    if multiprocessing.parent_process() is None:
        return
    for each in (signal.SIGINT, *WARNINGS):
        signal.signal(each, signal.SIG_IGN)
    parent = os.getppid()
    with suppress(AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
