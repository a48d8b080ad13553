# Two commands are enough: `make demo` and `make test`. `make help` lists all.
PROJECT ?= examples/health_visits/project.yaml
LIFECYCLE_HOME ?= $(CURDIR)/.lifecycle
export DO_NOT_TRACK ?= 1
# with it, each process compiles what it imports anew: 5 s where 2 are enough, for pandas and xgboost alone
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
READY := .venv/.ready
CHECKS := .venv-checks
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
UV := $(BIN)/uv pip install -q --no-deps --require-hashes --python

.PHONY: help install demo test test-system test-all test-pages servers stack stack-test upgrade-test chaos lint docs screenshots notebooks bench serve page ui deploy release clean distclean
help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

install: $(READY)  ## make .venv and .venv-checks from their locks, and nothing else

demo: $(READY)  ## the whole lifecycle on the bundled example: SQLite, local Ray, local files
	$(BIN)/lifecycle run end_to_end $(PROJECT)$(if $(ENV), --env $(ENV))

# more processes than processors, since most tests wait for servers to start: three take 9 minutes on two cores. A
# file's tests share its fixtures, and some files one Prefect server and one Ray ([shared] of tests/budget.toml), so
# they stay together (xdist 3.8 does nothing for its groups under pytest 9.2). Long files begin, where xdist would
# begin with those of many tests
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --durations=25

test: $(READY) servers  ## unit and component tests, and one system test of each kind
	$(PYTEST) -n 3 -m "smoke or (unit or component) and not system"

# beside several clusters at once, Ray's processes miss the 30 s that they have to start
test-system: $(READY) servers  ## the system tests that make test leaves out
	$(PYTEST) -n 2 -m "system and not smoke and not alone"
	$(BIN)/python -m pytest --durations=25 -m alone

test-all: test test-system  ## every test but those of make test-pages

test-pages: $(READY) servers  ## every command of README, tutorial and how-tos, run as written: half an hour
	$(BIN)/python -m pytest -m pages

# what is tried on a real server or browser that is no Python package; pages are looked at from an environment of its own
servers:
	@if { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; } && command -v prometheus >/dev/null && command -v prometheus-pushgateway >/dev/null && command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends postgresql prometheus prometheus-pushgateway chromium >/dev/null; \
	else echo "Some tests need PostgreSQL's server programs, and make stack Prometheus, those of metrics its Pushgateway, those of pages Chromium: sudo apt-get install postgresql prometheus prometheus-pushgateway chromium"; fi
	@[ .venv-browser/ready -nt requirements-browser.lock ] || { $(BIN)/uv venv -q --clear --python $(BIN)/python .venv-browser && \
	  $(BIN)/uv pip install -q --no-deps --require-hashes --python .venv-browser/bin/python -r requirements-browser.lock && touch .venv-browser/ready; } || echo "Pages are not looked at in a browser: .venv-browser cannot be filled"

stack: $(READY) servers  ## staging and prod on loopback: PostgreSQL, Prefect, MLflow, S3, Ray, workers, Prometheus; until Ctrl-C
	@$(BIN)/python -m deployments.stack

stack-test: $(READY) servers  ## the tests of staging and prod on that stack
	$(BIN)/python -m pytest --durations=10 tests/integration/test_stack.py

upgrade-test: $(READY) servers  ## both environments of that stack upgraded and taken back; FORMER=…/.venv/bin/python of a former version
	FORMER_PYTHON=$(FORMER) $(BIN)/python -m pytest -s tests/integration/test_upgrade.py

chaos: $(READY)  ## SIGKILL and a full disk at 200 seeded points of the flows (POINTS, SEED); needs a C compiler
	$(BIN)/python -m tests.chaos$(if $(POINTS), --points $(POINTS))$(if $(SEED), --seed $(SEED))

lint: $(READY)  ## ruff, mypy strict, import directions, names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.lint

# in an environment of its own, from its lock
.venv-docs/.ready: requirements-docs.lock | $(READY)
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-docs && \
	  $(UV) .venv-docs/bin/python -r requirements-docs.lock && touch $@

docs: .venv-docs/.ready  ## the site of docs/, into .site: open .site/index.html
	PATH="$(CURDIR)/.venv-docs/bin:$$PATH" NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs -q build

screenshots: $(READY) servers  ## the pictures of docs/images, from what make demo left in .lifecycle
	LIFECYCLE_HOME='$(LIFECYCLE_HOME)' $(BIN)/lifecycle page examples/health_visits/project.yaml --only
	.venv-browser/bin/python -m tests.support.screenshots '$(LIFECYCLE_HOME)/reports/health_visits' docs/images

notebooks: .venv-docs/.ready  ## each notebook and its text made equal: the newer one wins
	.venv-docs/bin/jupytext --quiet --sync notebooks/*.ipynb

bench: $(READY)  ## measure against the bare libraries; writes benchmarks/results.json
	$(BIN)/python -m benchmarks

serve: $(READY)  ## serve the champion of PROJECT in the foreground
	$(BIN)/lifecycle serve $(PROJECT)$(if $(ENV), --env $(ENV))

page: $(READY)  ## one page about PROJECT in all environments: what runs, since when, why, how well
	$(BIN)/lifecycle page $(PROJECT)$(if $(ENV), --env $(ENV))

ui: $(READY)  ## the page of PROJECT, MLflow UI and Prefect UI on loopback, until Ctrl-C (MLFLOW_PORT, PREFECT_PORT, PAGE_PORT)
	@LIFECYCLE_HOME='$(LIFECYCLE_HOME)' $(BIN)/lifecycle ui $(PROJECT)$(if $(ENV), --env $(ENV))

deploy: $(READY)  ## every flow as a Prefect deployment of ENV, a file of deployments/, for PROJECT if it is given
	@test -n "$(ENV)" || { echo "Say which environment: make deploy ENV=dev (or another of: $(basename $(notdir $(wildcard deployments/*.env))))"; exit 2; }
	@$(BIN)/python -m tasks.deployments --env '$(ENV)'$(if $(filter-out file,$(origin PROJECT)), --project '$(PROJECT)')

# in an environment of its own and from another folder, as whoever installs the wheel has it
RELEASED := .venv-release
release: $(READY)  ## build the wheel, install it with the locked packages into a clean environment, and try it there
	rm -rf dist $(RELEASED) && $(BIN)/uv build -q --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .
	$(BIN)/uv venv -q --python $(BIN)/python $(RELEASED)
	$(UV) $(RELEASED)/bin/python -r requirements.lock
	$(BIN)/uv pip install -q --no-deps --python $(RELEASED)/bin/python dist/*.whl
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cp -r examples/health_visits "$$folder" && cd "$$folder/health_visits" && \
	  export LIFECYCLE_HOME="$$folder/home" LIFECYCLE_KEEP_WARM=0 && \
	  for verb in --version "validate project.yaml" "run prepare project.yaml"; do \
	    echo "lifecycle $$verb" && $(CURDIR)/$(RELEASED)/bin/lifecycle $$verb || exit 1; done
	@rm -rf $(RELEASED) build && ls -1 dist

clean:  ## remove .lifecycle (data versions, models, runs), .stack and tool caches
	@if [ -e .lifecycle/prefect/warm-server.json ]; then LIFECYCLE_HOME='$(CURDIR)/.lifecycle' $(BIN)/lifecycle down --force || true; fi
	rm -rf .lifecycle .stack .site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

distclean: clean  ## also remove .venv and .venv-checks
	rm -rf .venv .venv-* *.egg-info

# deepchecks holds back what we use, so that it has an environment of its own; both fill side by side. Its Python
# is the main one where that is 3.11 or 3.12, else one on the PATH or of pyenv.
FIRST = for p in $(1); do \
  $$p -c 'import sys; sys.exit(not (3, $(2)) <= sys.version_info[:2] <= (3, $(3)))' 2>/dev/null && { echo $$p; break; }; done
PYENV_ROOT ?= $(HOME)/.pyenv
$(READY): requirements.lock requirements-checks.lock pyproject.toml
	@python=$$($(call FIRST,$(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3),11,99)); \
	if [ -z "$$python" ]; then echo "Python 3.11 or newer is needed: install one, or name it with PYTHON=/path/to/python"; exit 2; fi; \
	echo "Installing the locked packages into .venv and $(CHECKS) with $$($$python --version): about a minute, 3.1 GB"; \
	rm -rf $(CHECKS) && $$python -m venv --clear .venv || exit 2; \
	checks=$$($(call FIRST,$$python python3.11 python3.12 $(wildcard $(PYENV_ROOT)/versions/3.1[12].*/bin/python),11,12)); \
	if [ -n "$$checks" ]; then $$checks -m venv --without-pip $(CHECKS); \
	else echo "Checks will be \"not run\": deepchecks needs Python 3.11 or 3.12. Install one, then: make -B install"; fi
	@awk '/^[a-z]/ { uv = /^uv==/ } uv' requirements.lock > .venv/uv.lock
	@{ $(PIP) --no-deps --require-hashes -r .venv/uv.lock && { \
	  { [ ! -d $(CHECKS) ] || $(UV) $(CHECKS)/bin/python -r requirements-checks.lock; } & checks=$$!; \
	  $(UV) $(BIN)/python -r requirements.lock && main=0 || main=1; \
	  wait $$checks && [ $$main = 0 ]; }; } || \
	{ echo "uv does not reach the packages; pip takes 4 to 8 minutes"; \
	  $(PIP) --no-deps --require-hashes -r requirements.lock && { [ ! -d $(CHECKS) ] || \
	  PIP_PYTHON=$(CHECKS)/bin/python $(PIP) --no-deps --require-hashes -r requirements-checks.lock; }; }
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@
