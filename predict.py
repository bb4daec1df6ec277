"""Predict new patients with a finished run: `python predict.py run=RUN data.root=DIR`."""

import sys

from lymphoml.core.signals import install_signal_handlers

if __name__ == "__main__":
    install_signal_handlers("rerun the same command")

    from lymphoml.cli.main import main

    main(["predict", *sys.argv[1:]])
