# `make demo` and `make test` need Python >= 3.11 with pip; uv is used for the second half of an install when present.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
OUT    ?= runs/demo
BIN    := .venv/bin

ifneq ($(shell command -v uv 2>/dev/null),)
INSTALL := uv pip install --quiet --python $(BIN)/python
else
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: demo test lint clean

demo: .venv/demo.stamp
	$(BIN)/levercheck demo --out $(OUT)

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/test.stamp
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch comes first and through plain pip, which takes a CPU build where one is provided; later steps leave it alone.
.venv/torch.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "levercheck needs Python >= 3.11; got $$($(PYTHON) --version). Run: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	@touch $@

.venv/demo.stamp: .venv/torch.stamp pyproject.toml
	$(INSTALL) -e '.[lm,report]'
	@touch $@

.venv/test.stamp: .venv/demo.stamp pyproject.toml tools/requirements-facts.txt
	$(INSTALL) -e '.[lm,report,test,lint]' -r tools/requirements-facts.txt
	@touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
