# The commands of a checkout. `make help` lists them.

VENV   ?= .venv
OLDEST ?= .venv-oldest
# The interpreter to build the environments with: any Python from 3.11 on. Left empty, one is looked for.
PYTHON ?=
# Passed on to pytest: make test PYTEST_ARGS="-k losses"
PYTEST_ARGS ?=

# What must work with the oldest supported versions: the model and everything that reads media.
OLDEST_TESTS ?= $(wildcard $(patsubst %,tests/foal_net/test_%*.py,configuration losses golden modeling audio_encoders media \
    video_processing processing pipeline) tests/cli/test_doctor.py)

# Its wheels do not import beside a CPU build of torch, so it stays outside the environment: some tests look for it there.
TORCHVISION ?= 0.28.0

# transformers' own common tests come in its source distribution: of the tested version, or of another one to try.
TESTED := $(shell sed -n 's/^transformers==//p' constraints/tested.txt)
TRANSFORMERS ?= $(TESTED)
COMMON = $(VENV)/transformers-tests

# The distribution of the default checkpoint, installed beside foal-hf.
WEIGHTS = weights/foal-net-small/pyproject.toml

# Processes that share the tests. Each has one thread: with torch's own threads on top they slow each other down.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# What needs no data of its own and no hours.
BENCHMARKS ?= $(wildcard $(patsubst %,benchmarks/%.py,training_step inference clip_to_label wavlm_attention front_end \
    stored_features annotate_files startup exported ddp timeline_memory missing_modality estimate faces))

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-transformers test-oldest bench mutants check format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

quickstart: $(VENV)/.installed ## Install, then train, test and run a tiny Foal-Net on generated mp4 files
	$(VENV)/bin/foal-hf quickstart

test: $(VENV)/.installed $(VENV)/.torchvision $(COMMON)/$(TESTED)/__init__.py ## Install, then run all tests
	$(call PYTEST,$(VENV))

test-transformers: $(VENV)/.torchvision $(COMMON)/$(TRANSFORMERS)/__init__.py ## Run transformers' own tests on ours: TRANSFORMERS=5.24.0
	@test "$(TRANSFORMERS)" = "$(TESTED)" || $(VENV)/bin/python -m pip install --quiet --no-deps --upgrade \
	    --target $(VENV)/transformers-$(TRANSFORMERS) transformers==$(TRANSFORMERS)
	PYTHONPATH=tests/support:$(VENV)/torchvision-for-tests:$(VENV)/transformers-$(TRANSFORMERS) \
	    $(call PYTEST,$(VENV)) -p torchvision_operators tests/transformers_common

test-oldest: $(OLDEST)/.installed ## Run the model and processor tests with the oldest supported versions
	$(call PYTEST,$(OLDEST)) $(OLDEST_TESTS)

bench: $(VENV)/.installed ## Run the benchmarks in short forms, and print what they give
	@set -e; for script in $(BENCHMARKS); do $(VENV)/bin/python $$script --short; done
	@$(VENV)/bin/python benchmarks/report.py outputs/benchmarks

mutants: $(VENV)/.installed ## Change the core bit by bit, and list in tests/mutants.md what no test notices (hours)
	@$(VENV)/bin/python -m pip install --quiet --constraint constraints/tested.txt --editable ".[mutants]"
	OMP_NUM_THREADS=1 $(VENV)/bin/mutmut run --max-children $(WORKERS)
	$(VENV)/bin/python scripts/report_mutants.py

check: $(VENV)/.installed ## Lint, check the format and the types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed ## Mend what `make check` finds and can be mended by a machine
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Remove the virtual environments and everything that was built
	rm -rf $(VENV) $(OLDEST) build dist outputs mutants .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml $(WEIGHTS) constraints/tested.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh $(VENV) constraints/tested.txt dev
	@touch $@

$(VENV)/.torchvision: $(VENV)/.installed
	@$(VENV)/bin/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/torchvision-for-tests \
	    torchvision==$(TORCHVISION)
	@touch $@

# The distribution lacks this file, on which its tests rely.
$(COMMON)/%/__init__.py: | $(VENV)/.installed
	@mkdir -p $(@D)
	@$(VENV)/bin/python -m pip download --quiet --no-deps --no-binary transformers --dest $(@D) transformers==$*
	@tar -xzf $(@D)/transformers-$*.tar.gz -C $(@D) --strip-components=2 --wildcards 'transformers-$*/tests/*.py'
	@rm $(@D)/transformers-$*.tar.gz
	@touch $@

$(OLDEST)/.installed: pyproject.toml $(WEIGHTS) constraints/oldest.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh $(OLDEST) constraints/oldest.txt test
	@touch $@
