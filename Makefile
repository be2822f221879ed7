# The commands of the README. Each makes .venv first where it is missing or older than settings.ini.
# ARGS are handed on: make up ARGS="--stack cpu"
SHELL := /bin/sh
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
PACKAGE := @PYTHON='$(PYTHON)' sh tools/environment.sh package
DEV := @PYTHON='$(PYTHON)' sh tools/environment.sh dev

.DEFAULT_GOAL := help
.PHONY: help up down test quick prove arm npu lab docs bench record browser clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

up: ## set up everything and end with a reply from a running server
	$(PACKAGE)
	@$(BIN)/qwen-npu up $(ARGS)

down: ## stop what `make up` started
	@if [ -x $(BIN)/qwen-npu ]; then $(BIN)/qwen-npu down $(ARGS); else echo "Nothing runs from here: there is no .venv."; fi

test: ## every chapter, the tests, the docs and their links
	$(DEV)
	@$(BIN)/python tools/run_tests.py $(ARGS)

quick: ## style, sync, plain pages and the fast tests: needs no engine
	$(DEV)
	@$(BIN)/python tools/run_tests.py --quick $(ARGS)

prove: ## the long proofs in groups (ARGS="--only walk"; "--list" names them)
	$(DEV)
	@$(BIN)/python tools/run_tests.py --prove $(ARGS)

arm: ## on an x86_64 Debian, as root: the same on an emulated aarch64 processor (ARGS: a command to run there instead)
	@sh tools/arm.sh $(ARGS)

npu: ## on an Ascend server: the walk and the chapters' NPU cells, as a record that may be sent
	$(DEV)
	@$(BIN)/python tools/npu.py $(ARGS)

lab: ## open the chapters in JupyterLab
	$(DEV)
	@$(BIN)/python -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir=nbs $$([ "$$(id -u)" = 0 ] && echo --allow-root) $(ARGS)

docs: ## build the docs site and serve it on this machine
	$(DEV)
	@$(BIN)/python tools/build_docs.py --serve $(ARGS)

bench: ## the figures: start-up, speed, memory
	$(DEV)
	@for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script $(ARGS) || exit 1; done

record: ## run the notebooks and keep their outputs; then the panel's picture, README.md and README.zh.md
	$(DEV)
	@$(BIN)/python tools/run_notebooks.py $(ARGS)
	@$(BIN)/python -m pytest -q tests/browser/test_panel.py -k from_check && cp tests/screenshots/panel.png nbs/faces/panel.png
	@$(BIN)/python tools/build_readme.py

browser: ## install Chromium for the browser tests (Debian and Ubuntu, as root)
	@sh tools/browser.sh

clean: ## delete .venv and what the tools made; models and engines stay in $QWEN_NPU_HOME
	@rm -rf .venv .venv.lock _proc _docs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis tests/screenshots nbs/nbdev.yml
	@find . -name __pycache__ -prune -exec rm -rf {} +
	@echo "Models, engines and logs are elsewhere: qwen-npu remove frees them."
