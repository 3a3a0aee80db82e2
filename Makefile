# The two commands a newcomer needs are `make quickstart` and `make test`; each sets up what it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
# Tests are many small computations: one thread each and one process a core beats the other way.
TEST_PROCESSES ?= 2
PYTEST_OPTIONS ?=

.PHONY: help setup packages quickstart test check format study study-hh bench constraints clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make .venv with everything pinned

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "hark needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

packages: ## Debian packages for the tests of the labelling pages and PostgreSQL (as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		$$(grep -v '^#' debian-packages.txt)

quickstart: setup ## The whole loop on the built-in playground, ending with a report
	$(BIN)/hark quickstart

test: setup ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(PYTEST_OPTIONS)

check: setup ## Formatting, lint, types, architecture: what a machine can check without running hark
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

format: setup ## Format the code and mend what lint can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

study: setup ## A recipe on real data: make study RECIPE=hh-small OPTIONS="--input helpful=FILE"
	$(BIN)/hark run $(or $(RECIPE),hh-small) $(OPTIONS)

# Hours on two cores, two stages at a time; what is complete is not run again. REAL="--input
# model=SFT_RUN --input helpful=FILE …" adds the effects on comparisons of people
# (hark run study-hh-real).
HH_RUNS ?= runs/study-hh
JOBS ?= 2
study-hh: setup ## HH's effects on the playground, with seeds and intervals: docs/replications/hh.md
	set -e; for part in preferences policies elo outliers online; do \
		$(BIN)/hark run study-hh-$$part --output $(HH_RUNS) --jobs $(JOBS); done
	$(if $(REAL),$(BIN)/hark run study-hh-real --output $(HH_RUNS) --jobs $(JOBS) $(REAL))
	$(BIN)/hark replication $(HH_RUNS)/*-study* --title "HH in small" --into docs/replications/hh \
		--introduction docs/replications/hh-introduction.md

# A benchmark's own model and data, or random weights and the playground where nothing is named.
BENCHMARK = $(BIN)/python -m benchmarks.
BENCHMARK_OPTIONS = $(if $(MODEL),--model $(MODEL)) --append docs/performance.md $(OPTIONS)
data = $(if $(1),--data $(1))

bench: setup ## hark beside its peers (MODEL=, DEMONSTRATIONS=, PAIRS=, RANKINGS=, PROMPTS=)
	$(BENCHMARK)sft $(BENCHMARK_OPTIONS) $(call data,$(DEMONSTRATIONS))
	$(BENCHMARK)preference $(BENCHMARK_OPTIONS) $(call data,$(PAIRS))
	$(BENCHMARK)limit $(BENCHMARK_OPTIONS) $(call data,$(PAIRS))
	$(BENCHMARK)preference --rankings $(BENCHMARK_OPTIONS) $(call data,$(RANKINGS))
	$(BENCHMARK)generation --prompts 256 $(BENCHMARK_OPTIONS) $(call data,$(PROMPTS))
	$(BENCHMARK)generation --prompts 256 --continuous $(BENCHMARK_OPTIONS) $(call data,$(PROMPTS))
	$(BENCHMARK)ppo $(BENCHMARK_OPTIONS) $(call data,$(PROMPTS))
	$(BENCHMARK)ppo --inner-epochs 4 $(BENCHMARK_OPTIONS) $(call data,$(PROMPTS))
	$(BENCHMARK)multiple_choice $(BENCHMARK_OPTIONS) $(call data,$(DEMONSTRATIONS))
	$(BENCHMARK)ppo_memory $(BENCHMARK_OPTIONS) $(call data,$(PROMPTS))
	$(BENCHMARK)alone --append docs/performance.md $(call data,$(DEMONSTRATIONS)) $(if $(PAIRS),--pairs $(PAIRS))

constraints: ## Take the newest versions of everything and pin them
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --group dev
	{ head -1 constraints.txt; $(BIN)/python -m pip freeze --all --exclude-editable --exclude hark \
		| sed 's/+cpu$$//' | sort -f; } > constraints.new
	mv constraints.new constraints.txt
	touch $(INSTALLED)

clean: ## Remove the environment and caches; runs are kept
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
