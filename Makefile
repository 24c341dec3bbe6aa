# Everything runs in .venv, made from requirements.lock (pins and hashes) on first use.
# All paths are relative, so that a checkout in a folder with spaces works too.
PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml

.PHONY: demo test test-all lint types wheel facts lock clean

demo: .venv/.ready ## write a page that shows what the software does, and print its path
	@$(PY) -m deblur_jax demo -o demo --overwrite

test: .venv/.ready ## all tests but the slowest
	@$(PY) -m pytest -m "not slow"

test-all: test .venv/.tf ## the slowest too, compiled as users have it: whole commands, killed and distributed training
	@XLA_FLAGS=--xla_backend_optimization_level=3 $(PY) -m pytest -m slow

lint: .venv/.ready
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: .venv/.ready
	@$(PY) -m basedpyright deblur_jax

wheel: .venv/.ready ## build the wheel and try it in a clean environment elsewhere
	@$(PY) tests/wheel_check.py

facts: .venv/.ready ## count the networks' facts anew (deblur_jax/models/facts.json)
	@$(PY) -m deblur_jax.models.facts

lock: ## renew requirements.lock and, with what TensorFlow adds to it, requirements-tf.lock (needs uv)
	@$(COMPILE) --upgrade --extra dev -o requirements.lock
	@cp requirements.lock .all.lock && $(COMPILE) --extra dev --extra tf -o .all.lock
	@awk 'NR == FNR {if (/==/) there[$$0]; next} /^[a-z].*==/ {on = !($$0 in there)} on' \
	  requirements.lock .all.lock >requirements-tf.lock && rm .all.lock

clean:
	@rm -rf .venv .cache demo build dist *.egg-info

# The dependencies. The environment is made anew whenever the lock changes, and an interrupted
# installation has no stamp, so it is made anew too. setuptools comes first because a few
# dependencies exist as source alone and are built with this pinned one, not with a downloaded one.
.venv/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "deblur_jax needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@rm -rf .venv && $(PYTHON) -m venv .venv >/dev/null 2>&1 || { \
	  echo "'$(PYTHON) -m venv' does not work here. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing the pinned dependencies into .venv (once; two to three minutes) ..."
	@awk '/^setuptools==/ {on=1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/setuptools.lock
	@{ $(PIP) install --quiet --require-hashes -r .venv/setuptools.lock && \
	   $(PIP) install --quiet --require-hashes --no-build-isolation -r requirements.lock; } >.venv/install.log 2>&1 || { \
	  if grep -qiE 'name resolution|NewConnection|ConnectTimeout|unreachable|connection (refused|broken|reset|error)' .venv/install.log; \
	  then echo "The package index cannot be reached: is the network up? (details: .venv/install.log)"; \
	  else echo "Installing failed: $$(grep -i error .venv/install.log | tail -n 1) (details: .venv/install.log)"; fi >&2; exit 1; }
	@touch $@

# TensorFlow, for the tests of SavedModels alone: 1.4 GB that nothing else needs.
.venv/.tf: .venv/.locked requirements-tf.lock
	@echo "Installing TensorFlow into .venv for the slowest tests (once; about a minute) ..."
	@$(PIP) install --quiet --require-hashes --no-deps -r requirements-tf.lock >.venv/install.log 2>&1 || { \
	  echo "Installing TensorFlow failed: $$(grep -i error .venv/install.log | tail -n 1) (details: .venv/install.log)" >&2; exit 1; }
	@touch $@

.venv/.ready: .venv/.locked pyproject.toml
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable . >.venv/install.log 2>&1 || { \
	  echo "Installing deblur_jax failed: $$(tail -n 1 .venv/install.log)" >&2; exit 1; }
	@touch $@
