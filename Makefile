# `make study` and `make test` need git, make and Python 3.11 or newer; everything else goes into .venv.
# A second call finds the set-up done; a changed pyproject.toml or constraints.txt does it again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# a test process per core, as everywhere one thread each
PYTEST := $(BIN)/python -m pytest -q -n auto --maxprocesses=4 --dist=worksteal
# modules are compiled when they are first imported; all of torch would take half a minute more
INSTALL := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt

# without the compiled files every process compiles this project anew, and pytest every test
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help study test check lint check-tests mirror-test slurm-test browser-test resolver-test attack-kills attack-fuzz attack-platform attack-mutants slurm-chaos fix docs pins site bench

help:
	@echo "make study   set up, then run studies/quickstart.toml: data, training, fits, figures, report"
	@echo "make test    set up, then run the fast tests"
	@echo "make check   everything that CI checks: lint, format, types, layers, spelling, all tests, coverage"
	@echo "make lint    of these, all but the tests"
	@echo "make check-tests  of these, the tests with coverage"
	@echo "make mirror-test  install TensorBoard, MLflow and W&B and test the mirrors in them"
	@echo "make slurm-test   install SLURM if it is missing (Debian or Ubuntu, as root) and test sweeps on a real one"
	@echo "make browser-test install Chromium (as root) and axe-core if they are missing and test the report in it"
	@echo "make attack-kills   kill training 200 times and compare what is left with undisturbed runs"
	@echo "make attack-fuzz    change 10,000 inputs of each kind (hours; it goes on where it stopped) and see that each is read or refused in one line"
	@echo "make attack-platform  part of the tests in other paths, locales, time zones, with other users and versions (half an hour)"
	@echo "make resolver-test  of these, the lowest and the latest versions of the dependencies, without torch"
	@echo "make attack-mutants  break one promise at a time (half an hour) and see that the tests notice: benchmarks/results/attack-mutants.json"
	@echo "make slurm-chaos  36 cells while tasks, nodes and drivers are killed for three minutes"
	@echo "make fix     format, and mend what ruff can"
	@echo "make docs    write docs/cli.md from the live --help, docs/study-file.md from the code, numbers from results"
	@echo "make pins    write requirements-tested.txt (hashes) and docs/licences.md from what pip resolves"
	@echo "make site    build the documentation's site: build/site/index.html, which needs no server"
	@echo "make bench   run benchmarks/"
	@echo "Python: $(PYTHON) (another one: make study PYTHON=python3.12)"

study: $(VENV)/.runtime
	@echo "== study: scaling run studies/quickstart.toml"
	@$(BIN)/scaling run studies/quickstart.toml

# COVERAGE=1: with branch coverage, of which the fast tests alone must reach what all have to
test: $(if $(COVERAGE),$(VENV)/.dev,$(VENV)/.test)
	@echo "== test: the fast tests"
	@$(PYTEST) $(if $(COVERAGE),--cov --cov-report=term)

check: lint check-tests

lint: $(VENV)/.dev
	@echo "== lint: ruff check"
	@$(BIN)/ruff check .
	@# files have an encoding, whatever the locale is; by itself, as a preview of ruff changes other rules
	@$(BIN)/ruff check -q --preview --select PLW1514 analysis benchmarks docs models scaling sweeps
	@echo "== format: ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "== types: mypy"
	@$(BIN)/mypy
	@echo "== layers: lint-imports"
	@$(BIN)/lint-imports
	@echo "== pins: hashes and licences of constraints.txt"
	@$(BIN)/python docs/make_pins.py --check
	@echo "== spelling: codespell"
	@$(BIN)/codespell $$(git ls-files -- '*.py' '*.md' '*.toml' Makefile .ci)

# slow: only these, without coverage, which takes a fifth of their time; the other files need not be read
TESTS ?= all
check-tests: $(VENV)/.dev
	@echo "== tests: $(TESTS)"
	@$(PYTEST) -m "$(if $(filter slow,$(TESTS)),slow and )not gpu and not slurm and not mirrors and not browser" \
	  $(if $(filter slow,$(TESTS)),$$(git grep -lE 'mark\.slow|fast_only' -- tests),--cov --cov-report=term)

mirror-test: $(VENV)/.test
	@echo "== set-up: TensorBoard, MLflow, W&B"
	@$(INSTALL) --group mirrors
	@echo "== mirrors: runs copied to each, and read back"
	@$(BIN)/python -m pytest -q -m mirrors tests/mirrors

slurm-test: $(VENV)/.test
	@echo "== slurm: sweeps on a cluster of several nodes on this machine"
	@$(BIN)/python tests/support/slurm_cluster.py install --accounting
	@# mostly they wait; each process has clusters of its own
	@$(BIN)/python -m pytest -q -n 2 --dist=loadgroup -m slurm tests/cluster/test_slurm.py tests/cluster/test_slurm_ranks.py \
	  tests/cluster/test_slurm_shared_gpu.py tests/cluster/test_slurm_imports.py

browser-test: $(VENV)/.test
	@echo "== browser: the report in a headless Chromium, with axe-core's rules"
	@$(BIN)/python tests/support/browser.py install
	@$(BIN)/python -m pytest -q -m browser tests/report

attack-kills: $(VENV)/.test
	@echo "== attack: 200 kills of training processes"
	@$(BIN)/python -m tests.attack.kills --kills 200 -o benchmarks/results/attack-kills.json

CHAOS_SECONDS ?= 180
slurm-chaos: $(VENV)/.test
	@echo "== slurm: $(CHAOS_SECONDS) seconds of chaos"
	@$(BIN)/python tests/support/slurm_cluster.py install
	@CHAOS_SECONDS=$(CHAOS_SECONDS) $(BIN)/python -m pytest -q -s -m slurm tests/cluster/test_slurm_chaos.py

attack-fuzz: $(VENV)/.test
	@echo "== attack: changed inputs of every kind"
	@$(BIN)/python -m tests.attack.fuzz --inputs 10000
# UV: a resolver; NEWEST: the newest Python there is
attack-platform: $(VENV)/.test
	@echo "== attack: other paths, users, permissions, locales, time zones and versions"
	@$(BIN)/python tests/attack/platform_matrix.py $(if $(UV),--uv $(UV)) $(if $(NEWEST),--python $(NEWEST))

resolver-test: $(VENV)/.test
	@echo "== resolver: the lowest and the latest versions that pyproject.toml allows, without torch"
	@$(INSTALL) --group resolver
	@$(BIN)/python tests/attack/platform_matrix.py --without-torch --uv $(BIN)/uv

attack-mutants: $(VENV)/.test
	@echo "== attack: faults in the lines that carry the promises"
	@$(BIN)/python tests/attack/mutant_run.py

fix: $(VENV)/.dev
	@echo "== fix: ruff check --fix, ruff format"
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.runtime
	@echo "== docs: docs/cli.md, docs/study-file.md, numbers of the studies"
	@$(BIN)/python docs/make_cli.py
	@$(BIN)/python docs/make_study_file.py
	@$(BIN)/python docs/make_numbers.py

pins: $(VENV)/.test
	@echo "== pins: requirements-tested.txt, docs/licences.md"
	@$(BIN)/python docs/make_pins.py

site: $(VENV)/.docs
	@echo "== site: mkdocs build"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

bench: $(VENV)/.runtime
	@echo "== bench: each file of benchmarks/"
	@set -e; for file in $(wildcard benchmarks/*.py); do echo "-- $$file"; $(BIN)/python $$file; done

# One stamp per set of packages, each holding the smaller one.

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is not Python 3.11 or newer; name one that is, e.g. make study PYTHON=python3.12" >&2; exit 2; }
	@echo "== set-up: $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@# 25.1 is the first pip that knows --group
	@$(INSTALL) 'pip>=25.1'
	@touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/.python
	@echo "== set-up: torch (some minutes on a slow line)"
	@# by itself and by version, so that a torch which is there already is kept
	@$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	@echo "== set-up: ctr-scaling and what it needs"
	@$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	@echo "== set-up: test tools"
	@$(INSTALL) --group test
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@echo "== set-up: lint and type tools"
	@$(INSTALL) --group lint --group type
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	@echo "== set-up: the tools of the site"
	@$(INSTALL) --group docs
	@touch $@
