# Every target sets up what it needs, on a machine with nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
PEER := .venv-peer
RUN := $(VENV)/bin/python
export MAQUETTE_HOME ?= $(CURDIR)/$(VENV)/maquette-home
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help setup peer demo docs test lint bench clean

help:
	@echo "make setup   an environment in $(VENV), with maquette (editable) and all it can use"
	@echo "make demo    train, save, reload in a fresh process, and draw the result"
	@echo "make docs    the documentation as a site, in site/: open site/index.html"
	@echo "make test    lint, types, and all tests"
	@echo "make bench   measure against the peer, side by side"

setup: $(VENV)/.installed

# torch first and by its exact version: a range would take the largest build there is.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

# The peer has an environment of its own, for parity tests, benchmarks, and peft, which needs the peer. With msgspec it can
# run maquette too, from its source.
peer: $(PEER)/.installed

$(PEER)/.installed: constraints-peer.txt
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/python -m pip install --quiet --constraint constraints-peer.txt torch==2.13.0
	$(PEER)/bin/python -m pip install --quiet --constraint constraints-peer.txt transformers accelerate pillow peft datasets msgspec torchao
	@touch $@

demo: setup
	$(RUN) examples/custom_resnet/demo.py

# Warnings are errors. The variable silences what the theme says of its own future, which is no warning about a page.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet --clean --site-dir site
	@echo "open site/index.html"

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# Keras, on both of its backends, and Flax have processes of their own: no framework is to lean on another.
# What was skipped for want of what (espeak-ng, chromium, a GPU) is said at the end, for the four runs together.
test: export MAQUETTE_TEST_SKIPS = $(CURDIR)/$(VENV)/skips.txt
test: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/$(VENV)/compiled
test: setup peer lint
	rm -f $(MAQUETTE_TEST_SKIPS)
	MAQUETTE_PEER_PYTHON=$(CURDIR)/$(PEER)/bin/python $(RUN) -m pytest -n 2
	KERAS_BACKEND=tensorflow $(RUN) -m pytest -n 2 tests/on_keras
	KERAS_BACKEND=jax $(RUN) -m pytest -n 2 tests/on_keras
	$(RUN) -m pytest -n 2 tests/on_flax
	@$(RUN) tests/support/skips.py $(MAQUETTE_TEST_SKIPS)

bench: setup peer
	for script in benchmarks/*.py; do MAQUETTE_PEER_PYTHON=$(CURDIR)/$(PEER)/bin/python $(RUN) $$script || exit 1; done

clean:
	rm -rf $(VENV) $(PEER) demo site build dist
