"""SIGTERM and SIGINT end the process: by an exception, and soon after by force."""

import _thread
import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

UNWINDING = 1.5  # seconds from a signal to the end, however much is left to be closed
TWICE = 0.5  # a signal within so many seconds of the first is the same: timeout(1) sends two
WATCHED = 0.2  # seconds between two looks at whether the parent lives
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it, and may not come to its end
WATCH = "looks after the parent"  # a thread's name


class Stopped(SystemExit):
    """Nobody's error: passes through whatever catches Exception, and sets the exit code."""


class _Stop:
    """The one stop of this process."""

    code = 0  # 128 + the signal's number, once there was one
    since = 0.0
    advice = ""  # what the user is told to do next


def install_signal_handlers(advice: str) -> None:
    """From now on SIGTERM and SIGINT end this process, with exit code 143 or 130 and one line.

    Call it first, in the main thread. Children that are forked ignore SIGINT, which a terminal
    sends them too.
    """
    _Stop.advice = advice
    atexit.register(_leave)  # first in, last out
    os.register_at_fork(after_in_child=_in_child)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _stop)


def reraise_interrupt() -> None:
    """To be called wherever an Exception is caught: once a signal has come, it is nobody's error.

    A block that is left may fail and lose the stop: torch's zip writer does.
    """
    if _Stop.code:
        raise Stopped(_Stop.code)


def end_with_parent(_: Any = None) -> None:
    """Have a worker process leave SIGINT to its parent, and not outlive it; elsewhere do nothing.

    The argument is the worker's number, which torch's loaders give.
    """
    parent, keeper = multiprocessing.parent_process(), os.getppid()
    if parent is None or any(each.name == WATCH for each in threading.enumerate()):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == keeper and _exists(parent.pid):
            time.sleep(WATCHED)
        os._exit(1)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> None:
    if _Stop.code:
        if time.monotonic() - _Stop.since > TWICE:
            os._exit(_Stop.code)
        return
    _Stop.code, _Stop.since = 128 + number, time.monotonic()
    sys.excepthook = lambda *_: None  # one line says it all
    # Not threading.Thread: the signal may have come while its locks are held.
    _thread.start_new_thread(_force, ())
    if _importing(frame):
        _thread.start_new_thread(_leave, ())
    else:
        raise Stopped(_Stop.code)


def _importing(frame: FrameType | None) -> bool:
    """Nothing is open yet, and an exception through a module in C++ may abort the process."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _force() -> None:
    """Where the exception was swallowed, or the end takes long."""
    time.sleep(UNWINDING)
    _thread.start_new_thread(_leave, ())
    time.sleep(0.2)  # nobody may be reading what it writes
    os._exit(_Stop.code)


def _leave() -> None:
    if _Stop.code:
        with suppress(OSError):
            sys.stdout.flush()
            print(f"stopped; {_Stop.advice}", file=sys.stderr, flush=True)
            if os.isatty(1):  # not sys.stdout, which a progress bar may still hold
                os.write(1, SHOW_CURSOR)
        os._exit(_Stop.code)  # whatever became of the exception


def _in_child() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    atexit.unregister(_leave)


def _exists(process: int | None) -> bool:
    try:
        os.kill(process or 0, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
