# try: make demo     check: make test     everything: make help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
TORCH  ?= torch==2.13.0
WORKERS ?=
BIN    := $(VENV)/bin
# One thread a process: the sweep runs several at a time, and more threads only slow each other down.
export OMP_NUM_THREADS ?= 1

.PHONY: help .venv demo demo-full test test-all bench lint clean
help:
	@echo "make demo        train five methods x 2 seeds on the micro testbed and show a leaderboard"
	@echo "make demo-full   all nine methods x 3 seeds"
	@echo "make test        the tests that need nothing but Python"
	@echo "make test-all    also those that need further packages"
	@echo "make bench       seconds of a plan, of a training step by station, and against TRL"
	@echo "make lint        ruff and mypy"

# torch first and alone, so that the index that offers the build you want is asked for it and nothing else.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "making $(VENV): downloads torch and the rest, which takes minutes" >&2
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/pip install --quiet "$(TORCH)")
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

.venv: $(VENV)/.installed

# Failed runs are tried again, and the report is written whatever happens: it says what is missing.
define sweep
	$(BIN)/entrobench sweep submit $(1) launcher=local $(if $(WORKERS),workers=$(WORKERS)) \
	|| $(BIN)/entrobench sweep retry $(1) launcher=local $(if $(WORKERS),workers=$(WORKERS)); \
	code=$$?; $(BIN)/entrobench report $(1) && exit $$code
endef

demo: $(VENV)/.installed
	$(call sweep,sweeps/demo.yaml)

demo-full: $(VENV)/.installed
	$(call sweep,sweeps/demo-full.yaml)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m "not slurm and not vllm and not gpu and not peers"

$(VENV)/.peers: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,peers]'
	@touch $@

test-all: $(VENV)/.peers
	$(BIN)/python -m pytest -q

bench: $(VENV)/.peers
	$(BIN)/python -m tests.performance.bench_plan
	$(BIN)/python -m tests.performance.bench_step
	$(BIN)/python -m tests.performance.bench_trl

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
