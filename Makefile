# depl0kit: `make lab` is all a reader needs. Every target may be run again at any time.

VENV ?= .venv
PORT ?=
OPEN ?= 1
PYTHON ?=
LATEST ?=
PY := $(VENV)/bin/python

.PHONY: help lab check lint test proofs notebooks chromium clean force
.DEFAULT_GOAL := help

help:
	@echo "make lab        open the lessons in JupyterLab (PORT=8888, OPEN=0 to start no browser)"
	@echo "make check      lint and fast tests"
	@echo "make test       all but the long proofs, browser tests too (installs Chromium by apt where it may)"
	@echo "make proofs     the long proofs (hundreds of kills, 1,000 epochs, all of torchvision), with their numbers"
	@echo "make notebooks  run all notebooks; build/notebooks/*.html shows them without a kernel"
	@echo "make clean      remove build/ and caches (not .venv, not data)"
	@echo
	@echo "PYTHON=/path/to/python  make .venv with this Python (3.11 or newer)"
	@echo "LATEST=1                the newest packages instead of the tested ones in constraints.txt"

lab: $(VENV)/.installed-lab
	JUPYTER_CONFIG_PATH="$(CURDIR)/tools/jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" \
		$(PY) -m jupyterlab $(if $(filter 0,$(OPEN)),--no-browser) \
		$(if $(PORT),--port=$(PORT) --ServerApp.port_retries=0)

# Of what Hypothesis makes up, a tenth of the examples; `make test` tries all.
check: lint
	$(PY) -m pytest -n auto --hypothesis-profile=quick -m "not slow and not proofs and not gpu" --ignore=tests/browser

lint: $(VENV)/.installed-test
	$(PY) -m ruff check
	$(PY) -m ruff format --check

# Tests compute on one thread each, so that files run side by side, and lessons in the browser.
test: lint chromium
	$(PY) -m pytest -n auto -m "not proofs"

# Each proof leaves a line with its numbers at the end, for the note that closes an issue.
proofs: $(VENV)/.installed-test
	$(PY) -m pytest -n auto -m proofs

notebooks: $(VENV)/.installed-test
	$(PY) tools/execute_notebooks.py

# Without it the browser tests fail and say what to install; so this need not succeed.
chromium: $(VENV)/.installed-test
	@$(PY) tools/chromium.py 2>/dev/null || sh tools/install_chromium.sh

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis

# An installation is stamped with the folder it was made for: an editable one breaks when that is moved.
ifneq ($(shell cat $(VENV)/.checkout 2>/dev/null),$(CURDIR))
$(shell rm -f $(VENV)/.installed-*)
endif

$(VENV)/.installed-lab: extras = lab
$(VENV)/.installed-test: extras = lab,test
$(VENV)/.installed-%: pyproject.toml constraints.txt $(if $(LATEST),force)
	@sh tools/make_venv.sh $(VENV) $(PYTHON)
	@echo "Installing into $(VENV): up to 3 GB to download the first time, a few minutes"
	$(PY) -m pip install $(if $(LATEST),--upgrade --upgrade-strategy eager,-c constraints.txt) -e '.[$(extras)]'
	@echo "$(CURDIR)" > $(VENV)/.checkout
	@for extra in lab $*; do touch $(VENV)/.installed-$$extra; done
