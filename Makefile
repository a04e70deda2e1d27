# Everything that a newcomer needs: `make demo`, `make test`. `make help` lists the rest.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
PROJECTS := -e clients/python -e .
SIDE_BY_SIDE := tests/unit tests/integration tests/helm --ignore tests/helm/test_served_config.py

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help install demo train-demo loadtest test lint format generate lock clean

help:  ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: $(STAMP)  ## Put everything into .venv (8 GB; quick the second time)

# Says every five seconds how far pip is, whose own output goes to the log; ends with the recipe.
define watch
( while sleep 5 >/dev/null 2>&1 && kill -0 $$$$ 2>/dev/null; do \
    printf '    %4d s  %5d MB  %s\n' $$SECONDS "$$(du -sm $(VENV) 2>/dev/null | cut -f1)" \
      "$$(sed -nE 's/^ *((Collecting|Downloading) [^ ;-]*).*/\1/p; s/^(Installing) collected.*/\1/p' $(LOG) | tail -n 1)"; \
  done ) & watcher=$$!
endef

$(STAMP): requirements.lock pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "ImageLink needs Python 3.11 or later and '$(PYTHON)' is not that."; \
	  echo "Install one and name it: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "==> Making the virtual environment $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "==> Installing $$(grep -c == requirements.lock) packages into $(VENV): 8 GB, mostly PyTorch with CUDA"
	@echo "    This takes some minutes, once. The whole log is in $(LOG)."
	@$(watch); \
	{ $(BIN)/python -m pip install -r requirements.lock && \
	  $(BIN)/python -m pip install --no-deps --no-build-isolation $(PROJECTS); } >$(LOG) 2>&1; \
	result=$$?; kill $$watcher 2>/dev/null; wait $$watcher 2>/dev/null; \
	if [ $$result -ne 0 ]; then tail -n 20 $(LOG); echo "The installation failed: see $(LOG)."; exit 1; fi; \
	echo "==> Installed in $$SECONDS s"
	@touch $@

demo: install  ## Register pictures, scan photos of them: PICTURES=dir PHOTOS=dir for your own
	$(BIN)/python -m benchmarks demo $(if $(PICTURES),--pictures "$(PICTURES)") $(if $(PHOTOS),--photos "$(PHOTOS)")

train-demo: install  ## Train a small network in five minutes and show what it learnt
	$(BIN)/python -m benchmarks train-demo

loadtest: install  ## Two minutes of load on a server of its own, with thresholds: OPTIONS="--users 16"
	$(BIN)/python -m loadtests run $(OPTIONS)

test: lint  ## Run every check and every test
	@echo "==> Tests, in a process for each core"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --max-worker-restart 0 --dist loadfile --no-loadscope-reorder $(SIDE_BY_SIDE)
	@echo "==> Tests of whole servers, one after another"
	@$(BIN)/python -m pytest tests/e2e tests/helm/test_served_config.py

helm-test: install  ## Render the Helm chart, check it, and serve by its configuration
	@$(BIN)/python -m pytest tests/helm

lint: install  ## Run the checks that run no code
	@echo "==> Style"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "==> Types"
	@$(BIN)/mypy
	@echo "==> Imports between the packages"
	@$(BIN)/lint-imports

format: install  ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: install  ## Generate the client's code from protos/
	$(BIN)/python protos/generate.py

# pip resolves what both projects ask for, and installs nothing.
lock: install  ## Write requirements.lock anew, with the latest versions allowed
	@echo "==> Resolving the dependencies; this may download some"
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' >$(VENV)/dev.txt
	@$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-build-isolation \
	  --report $(VENV)/report.json -r $(VENV)/dev.txt $(PROJECTS) >$(VENV)/lock.log 2>&1 || { cat $(VENV)/lock.log; exit 1; }
	@$(BIN)/python -c 'import json; found = json.load(open("$(VENV)/report.json"))["install"]; pins = {p["metadata"]["name"].lower().replace("_", "-").replace(".", "-"): p["metadata"]["version"] for p in found if not p["download_info"].get("dir_info")}; print("# Linux x86_64, Python 3.11 or later. Written by: make lock"); print(*(f"{name}=={version}" for name, version in sorted(pins.items())), sep="\n")' >requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@echo "==> requirements.lock has $$(grep -c == requirements.lock) packages; 'make install' installs them"

clean:  ## Remove the virtual environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
