"""Predict new patients with a finished run: `python predict.py run=RUN data.root=DIR`."""

import sys

from lymphoml.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
