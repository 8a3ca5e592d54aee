# Everything is run from one virtual environment, .venv, which the targets make as they need it.
# onnxruntime reports usage over the network unless this is set before it loads.
export ORT_DISABLE_TELEMETRY := 1

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A stamp for each set of installed packages: made again when what it depends on has changed.
RUN_STAMP := $(VENV)/.installed-run
ALL_STAMP := $(VENV)/.installed-all
DECLARED := pyproject.toml constraints.txt

.PHONY: demo test check mutants format model schemas image bench clean help

help:  ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(RUN_STAMP)  ## a simulated specimen flown under control, live in this terminal
	$(BIN)/eelstm demo

test: $(ALL_STAMP)  ## all tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadscope

check: $(ALL_STAMP)  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(ALL_STAMP)  ## the guard broken, each check in turn: lists where no test notices; some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants

format: $(ALL_STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(ALL_STAMP)  ## write the JSON Schemas of the wire into the docs again
	$(BIN)/python -m eelstm_stream.wire.schemas docs/reference/schemas

# What both models are tested on: runs of other specimens than they are trained on.
TEST_RUNS := $(foreach seed,2000 2001 2002 2003 2004 2005 2006 2007,--test runs/test/run-$(seed).hspy)

model: $(ALL_STAMP)  ## both shipped models again, from simulated runs: files, hashes, cards and reports; a quarter of an hour
	$(BIN)/eelstm sim record --runs 40 --seed 1000 --resume -o runs/train
	$(BIN)/eelstm sim record --runs 8 --seed 2000 --resume -o runs/test
	$(BIN)/eelstm train runs/train/run-*.hspy $(TEST_RUNS) --model corrected --epochs 100 --made-by "make model" --force \
		-o eelstm_stream/models/srtio3-sim-0.4s.onnx --report runs/srtio3-sim-0.4s.html
	$(BIN)/eelstm train runs/train/run-*.hspy $(TEST_RUNS) --model paper --epochs 40 --patience 8 --made-by "make model" --force \
		-o eelstm_stream/models/srtio3-sim-0.4s-paper.onnx --report runs/srtio3-sim-0.4s-paper.html

image:  ## build the container image, and run the pipeline from it
	docker/make-image.sh

bench: $(RUN_STAMP)  ## the figures of the README, measured here
	$(BIN)/eelstm bench startup
	$(BIN)/eelstm bench latency
	$(BIN)/eelstm bench throughput --rate 500
	$(BIN)/eelstm bench throughput --rate max
	$(BIN)/eelstm bench instrument

clean:  ## remove the virtual environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "eelstm-stream needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): $(DECLARED) | $(BIN)/python
	@echo "installing what the programs need into $(VENV): a minute or so the first time"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[io]'
	touch $@

$(ALL_STAMP): $(DECLARED) | $(BIN)/python
	@echo "installing what training and tests need into $(VENV), TensorFlow among it: a few minutes the first time"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[io,train,usim,dev]'
	touch $@ $(RUN_STAMP)
