"""A job on a disk that is too small, and grows a little after each failure.

    python -m tests.promises.full_disk COHORT DISK KIBIBYTES [WORDS...]

DISK is a tmpfs; prints the lines of every failure, then the run's outcome as digests.
"""

import hashlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from lymphoml.cli.entry import run_cli
from tests.promises.jobs import configuration, outcome
from tests.promises.test_disk import parsed, whole_job


def attempt(config: dict, run: Path) -> tuple[int, str]:
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            run_cli(lambda: whole_job(config, run))
    except SystemExit as left:
        return int(left.code or 0), said.getvalue()
    return 0, ""


def main(cohort: Path, disk: Path, step: int, words: list[str]) -> None:
    kibibytes, code, before = step, 1, ""
    while code:
        remount = ["mount", "-o", f"remount,size={kibibytes}k", str(disk)]
        subprocess.run(remount, check=True)
        code, said = attempt(configuration(cohort, disk / "cache", *words), disk / "run")
        if code:
            print(code, said.strip())
        if code not in (0, 1):
            return
        parsed(disk)
        # The page is the one large file: nothing else is to be learned from small steps to it.
        kibibytes += 40 * step if said == before or "report.html" in said else step
        before = said
    for name, content in outcome(disk / "run").items():
        print("outcome", name, hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
