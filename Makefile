# Run `make help` for what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two at a time, each in a network of its own, so that both can have a playground.
SIDE_BY_SIDE = --tx '2*popen//python=$(BIN)/python -I -S playground/src/backstay_playground/own_network.py' --dist loadfile --no-loadscope-reorder
UV_COMPILE = uv pip compile --quiet --generate-hashes --python-version 3.11 --no-emit-find-links --no-emit-index-url --no-header

.PHONY: help setup up install down status demo test test-unit test-simulation test-component test-e2e lint bench-rollback bench-harmless bench-crowd bench-shadow bench-serving bench-scale bench-fleet bench-judge lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make the Python environment in .venv (the other targets do it when needed)

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Backstay needs Python 3.11 or newer: set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing the pinned Python packages into $(VENV) (about 1.5 minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: setup ## Bring up the playground: API server, Argo CD, Prometheus, gateway, Gitea, MLflow
	@$(BIN)/python -m backstay_playground up

install: setup ## Install the controller into the playground, or into the context that BACKSTAY_CONTEXT names
	@$(BIN)/python -m backstay_playground install

down: setup ## Stop the playground and remove its state
	@$(BIN)/python -m backstay_playground down

status: setup ## Show what runs in the playground, where, and its log
	@$(BIN)/python -m backstay_playground status

demo: setup ## The main job as a story: a good version goes live, a bad one goes back to Git (KEEP=1 leaves it up, PROTECTED=1 protects the branch)
	@$(BIN)/python -m backstay_playground demo $(if $(KEEP),--keep) $(if $(PROTECTED),--protected)

test: lint ## Everything: linters, unit, component and end-to-end tests
	@$(BIN)/python -m backstay_playground build
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/e2e tests/component tests/simulation tests/unit

test-unit: setup ## The fast tests, without any server
	@$(BIN)/python -m pytest --numprocesses=2 tests/unit

test-simulation: setup ## The controller's own code in a simulated world, in simulated time
	@$(BIN)/python -m pytest --numprocesses=2 tests/simulation

test-component: setup ## Tests against a real API server, a real Prometheus and real Git
	@$(BIN)/python -m pytest tests/component

test-e2e: setup ## Tests on the whole playground
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/e2e

lint: setup ## ruff, mypy --strict and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench-rollback: setup ## Time 20 rollbacks from breach to synced (min, median, max)
	@$(BIN)/python -m backstay_playground bench-rollback

bench-harmless: setup ## 20 rollouts of what is no different, at low traffic: none may be rolled back
	@$(BIN)/python -m backstay_playground bench-harmless

bench-shadow: setup ## What copying every request to a version in the shadow costs clients, in paired runs
	@$(BIN)/python -m backstay_playground bench-shadow

bench-crowd: setup ## 50 models of one repository fail at once while three others push to it
	@$(BIN)/python -m backstay_playground bench-crowd

bench-serving: setup ## The model server beside `mlflow models serve` and MLServer, with one model in one run (ARGS=--help)
	@PYTHONPATH=benchmarks/src $(BIN)/python -m backstay_bench_serving $(ARGS)

bench-scale: setup ## One controller with many live canaries (ARGS="50 200 --with flagger": sizes, peers; ARGS=--help)
	@PYTHONPATH=benchmarks/src $(BIN)/python -m backstay_bench_scale $(ARGS)

bench-fleet: setup ## Rollbacks of many clusters in few repositories, simulated (ARGS=--help)
	@PYTHONPATH=benchmarks/src $(BIN)/python -m backstay_bench_scale.fleet $(ARGS)

bench-judge: setup ## The judge beside others on simulated rollouts, written to docs/ (ARGS=--full: 10,000 runs, hours; ARGS=--help)
	@OMP_NUM_THREADS=1 PYTHONPATH=benchmarks/src $(BIN)/python -m backstay_bench_judge $(ARGS)

lock: ## Pin the Python packages again, with hashes (needs uv)
	$(UV_COMPILE) --extra test pyproject.toml --output-file requirements/dev.txt
	$(UV_COMPILE) --extra controller pyproject.toml --output-file requirements/controller.txt
	$(UV_COMPILE) --extra serving pyproject.toml --output-file requirements/serving.txt
	$(UV_COMPILE) requirements/bench-mlserver.in --output-file requirements/bench-mlserver.txt

clean: down ## Remove the playground's state and the Python environment
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .hypothesis
