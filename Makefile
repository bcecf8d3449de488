# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="..." is passed on to the command.

BIN := .venv/bin
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.12 python3.11 python3.13 python3.14)
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

RELIABILITY := $(wildcard tests/meta_train/test_reliability*.py) \
  $(addprefix tests/meta_train/test_,run_store.py resume.py distributed.py launch.py)

.PHONY: install demo test test-reliability notebooks lint

install: .venv/installed

# The stamp is newer than pyproject.toml once its dependencies are installed.
.venv/installed: pyproject.toml
	@if ! $(BIN)/python -c '$(USABLE)' 2>/dev/null; then \
	  for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c '$(USABLE)' 2>/dev/null; then found="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "No usable Python 3.11 or newer (with venv) among: $(CANDIDATES). Install one, or give its path: make install PYTHON=/path/to/python3" >&2; \
	    exit 2; \
	  fi; \
	  echo "Creating .venv with $$("$$found" --version)"; \
	  "$$found" -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/python -m meta_train demo $(ARGS)

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# The long versions of the reliability tests: kills, damages, layouts, soak. About an hour on two cores.
test-reliability: install
	nice $(BIN)/python -m pytest -m slow $(RELIABILITY) $(ARGS)

# Every notebook in a kernel, at its smoke setting.
notebooks: install
	$(BIN)/python -m pytest -m slow tests/eval/test_notebooks.py $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
