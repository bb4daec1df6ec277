#!/usr/bin/env bash
# Check a GPU against the CPU, measure training on it, extrapolate the paper's Figure 3: eight minutes at most.
#   benchmarks/gpu.sh [--out gpu.json] [--help]    PYTHON=... for another environment than that of `make setup`
# Draws its own cohort. Without a GPU it measures the CPU. Exit code 1: a step failed or ran over, see the table.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || { echo "error: $python is missing: make setup makes it, PYTHON=... names another" >&2; exit 2; }
PYTHONPATH=$root exec "$python" -m benchmarks.gpu "$@"
