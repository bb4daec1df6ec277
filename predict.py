"""Predict new patients with a finished run: `python predict.py run=RUN data.root=DIR`."""

import sys

from lymphoml.core.signals import stop_on_signals

if __name__ == "__main__":
    stop_on_signals("give the same command again")

    from lymphoml.cli.main import main

    main(["predict", *sys.argv[1:]])
