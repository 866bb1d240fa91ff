# Two commands do everything on a machine with Python 3.11 or later, make and git:
#   make erase    sets itself up, erases a concept from the embedded model and scores the result
#   make test     sets itself up and runs every check
# Everything is installed into .venv/ in this folder, at the exact versions of constraints.txt.

PYTHON ?= python3
CONCEPT ?= cat
OUT ?=
ARGS ?=
PIP_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

# The embedded model is small: past four threads each step only waits for the slowest of them.
OMP_NUM_THREADS ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() or 1))')
OMP_WAIT_POLICY ?= PASSIVE
export OMP_NUM_THREADS OMP_WAIT_POLICY

.PHONY: help erase test bench docs lab readme constraints clean

help:
	@echo 'make erase [CONCEPT=cat] [OUT=runs/cat] [ARGS="--steps 100"]   erase a concept, score it, draw before/after'
	@echo 'make test                                                     every check; "N passed, N failed, N skipped" at the end'
	@echo 'make bench                                                    four speeds as ratios, into data/results/bench.csv'
	@echo 'make lab                                                      the notebooks in JupyterLab'
	@echo 'make docs                                                     the website, with Quarto if it is here (quarto.org)'
	@echo 'make readme                                                   README.md from nbs/index.ipynb'
	@echo 'make constraints                                              constraints.txt from what .venv holds now'
	@echo 'make clean                                                    removes .venv and everything built'

$(VENV)/library.stamp: constraints.txt settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or later is needed: name one with make PYTHON=python3.11'; exit 2; }
	@echo 'Setting up .venv: PyTorch (once; some minutes)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@echo 'Setting up .venv: EraseAnything and its libraries'
	@$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/library.stamp
	@echo 'Setting up .venv: nbdev, JupyterLab and what the checks need'
	@$(PIP) -e '.[dev,docs,quant]'
	@touch $@

erase: $(VENV)/library.stamp
	@echo 'Erasing "$(CONCEPT)"'
	@$(BIN)/eraseanything erase "$(CONCEPT)" $(if $(OUT),--out "$(OUT)") $(ARGS)

test: $(VENV)/dev.stamp
	@$(BIN)/python tools/check.py

bench: $(VENV)/library.stamp
	@$(BIN)/python tools/bench.py $(ARGS)

lab: $(VENV)/dev.stamp
	@$(BIN)/jupyter lab nbs

readme: $(VENV)/dev.stamp
	@$(BIN)/python tools/readme.py

# Not nbdev_docs: it would execute code of the notebooks, and install Quarto by itself, with sudo.
docs: $(VENV)/dev.stamp
	@$(BIN)/python tools/website.py

# A CPU build of torch carries a local version (2.13.0+cpu) that other machines cannot ask for.
constraints: $(VENV)/dev.stamp
	@$(BIN)/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu$$//' > constraints.txt
	@touch $(VENV)/library.stamp $(VENV)/dev.stamp
	@echo "constraints.txt names $$(wc -l < constraints.txt) packages"

clean:
	rm -rf $(VENV) _proc _docs build dist *.egg-info
