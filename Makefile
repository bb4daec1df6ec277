# Everything a user types. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN ?= runs/demo
SWEEP ?= ablation
DATA ?= data/lymphocytosis
COMPETITION ?= dlmi-lymphocytosis-classification
TORCH ?= $(or $(file <$(READY)),cuda)
ARGS ?=
export MESSAGE DATA RUN    # by the environment, so that spaces and quotes in them do no harm

.PHONY: help setup demo data audit train ablation triage predict submit report docs test test-all lint bench audit-deps clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# TORCH=cpu leaves CUDA out: all but these as locked, then the locked torch from uv's index of CPU builds, whose
# hashes the lock does not have.
CUDA := ^(torch|torchvision|triton|nvidia-.*|cuda-.*)==
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

setup: $(READY)  ## make .venv from the hash-locked requirements.lock; TORCH=cpu: without CUDA
	@case "$$(cat $(READY))" in ""|$(TORCH)) ;; *) echo "$(VENV) is of TORCH=$$(cat $(READY)); remove it first" >&2; exit 2;; esac

$(READY): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lymphoml needs Python 3.11 or newer; PYTHON=... names another one")'
	@$(PYTHON) -c 'import ensurepip' || { echo "Debian keeps venv apart: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	awk '/^[^ ]/ {kept = !/$(CUDA)/} kept' requirements.lock >$(VENV)/no-cuda.lock
	$(PIP) --no-deps --require-hashes -r $(VENV)/no-cuda.lock
	$(PIP) uv
	$(BIN)/uv pip install --python $(BIN)/python --torch-backend=cpu --no-deps $$(grep -oE '^torch(vision)?==[0-9.]+' requirements.lock)
else ifeq ($(TORCH),cuda)
	$(PIP) --require-hashes -r requirements.lock
else
	$(error TORCH=$(TORCH): must be cuda or cpu)
endif
	echo $(TORCH) >$@

demo: $(READY) data/demo/truth.json  ## synthetic cohort, folds, predictions, Kaggle file, report: minutes
	$(BIN)/python -m lymphoml audit cohort=synthetic data.root=data/demo out=runs/demo/audit.json || test $$? -eq 1
	$(BIN)/python train.py experiment=demo hydra.run.dir=runs/demo
	$(BIN)/python -m lymphoml triage run=runs/demo sensitivity=0.9
	$(BIN)/python predict.py run=runs/demo
	$(BIN)/python -m lymphoml explain run=runs/demo methods=[leave_one_out,occlusion,grad_cam]
	$(BIN)/python -m lymphoml report run=runs/demo audit=runs/demo/audit.json
	@echo
	@echo "Made:"
	@echo "  data/demo                        a synthetic cohort in the Kaggle layout"
	@echo "  runs/demo/metrics.json           out-of-fold scores of 5 folds, with intervals"
	@echo "  runs/demo/report.html            a page to look at"
	@echo "  runs/demo/test/submission.csv    the Kaggle file"
	@echo "Try next:"
	@echo "  make test                                                      the tests"
	@echo "  $(BIN)/python train.py experiment=demo model/pooling=attention    another pooling"
	@echo "  make train DATA=data/lymphocytosis                             the real cohort, once you have it"

data/demo/truth.json: | $(READY)
	$(BIN)/python -m lymphoml synthesize out=data/demo patients=120 test_patients=15 images=[6,12] size=32 clinical_effect=0.25 seed=0

data: $(READY)  ## the competition's files from Kaggle, checked, then the audit: DATA=folder
	$(BIN)/python -m lymphoml download "out=$$DATA" competition=$(COMPETITION)
	$(BIN)/python -m lymphoml audit "data.root='$$DATA'" $(ARGS) || test $$? -eq 1

audit: $(READY)  ## images, duplicates, persons and shortcuts of a cohort: DATA=folder ARGS="cohort=table"
	$(BIN)/python -m lymphoml audit "data.root='$$DATA'" $(ARGS)

train: $(READY)  ## cross-validate one configuration: DATA=folder ARGS="lr=1e-3 optim=adam"
	$(BIN)/python train.py "data.root='$$DATA'" $(ARGS)

ablation: FOLDER = runs/$(or $(patsubst name=%,%,$(filter name=%,$(ARGS))),$(SWEEP))
ablation: $(READY)  ## the paper's 8 configurations, restartable: SWEEP=ablation_small DATA=folder ARGS="..."
	$(if $(filter ablation ablation_small,$(SWEEP)),,$(error SWEEP=$(SWEEP): must be ablation or ablation_small))
	@echo "$(or $(filter experiment=%,$(ARGS)),experiment=paper); sweeps/$(SWEEP).yaml, \
	$(if $(findstring sweeper.params,$(ARGS)),configurations as in ARGS,8 configurations)"
	$(BIN)/python train.py -cd sweeps -cn $(SWEEP) "data.root='$$DATA'" $(ARGS)
	$(BIN)/python -m lymphoml compare runs=$(FOLDER) pairs=true
	$(BIN)/python -m lymphoml report runs=$(FOLDER)

triage: $(READY)  ## rule-out threshold, before predict: RUN=runs/NAME/SLUG ARGS="prevalence=0.3"
	$(BIN)/python -m lymphoml triage "run=$$RUN" $(ARGS)

predict: $(READY)  ## predict the unlabelled patients: RUN=runs/NAME/SLUG
	$(BIN)/python predict.py "run=$$RUN" $(ARGS)

submit: $(READY)  ## send the Kaggle file: RUN=runs/NAME/SLUG MESSAGE="..."
	$(BIN)/python -m lymphoml submit "run=$$RUN" "message=$$MESSAGE" competition=$(COMPETITION) $(ARGS)

report: $(READY)  ## one HTML page of a run: RUN=runs/NAME/SLUG ARGS="audit=FILE"
	$(BIN)/python -m lymphoml report "run=$$RUN" $(ARGS)

docs: $(READY)  ## these pages as a site, the tutorial executed: docs/_build/html/index.html
	$(BIN)/python -m sphinx -W --keep-going -n -q -c docs . docs/_build/html

test: $(READY)  ## the tests, minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(READY)  ## the tests and the slow ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow" --hypothesis-profile default

lint: $(READY)  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## speed and memory against the paper's recipe and a plain loop: ARGS="--size 224 --bag 66"
	$(BIN)/python -m benchmarks.speed $(ARGS)

audit-deps: $(READY)  ## known vulnerabilities of the locked packages; says so where none can be looked up
	$(BIN)/python .ci/audit_deps.py $(ARGS)

# What the demo writes into runs/demo, which also holds other runs that are trained with name=demo.
DEMO := .lock SHA256SUMS audit.json baselines.csv config.yaml environment.json explanations fold-* folds.csv ledger.jsonl \
  metrics.json outside_range.csv predictions.csv pseudonyms.csv report.html strata.csv tensorboard test triage.json wandb

clean:  ## remove the demo and caches; never your data or other runs
	test ! -e runs/demo/config.yaml || rm -rf $(addprefix runs/demo/,$(DEMO))
	rmdir runs/demo 2>/dev/null || true
	test ! -e data/demo/truth.json || rm -rf data/demo
	rm -rf docs/_build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
