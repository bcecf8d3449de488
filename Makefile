# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="..." is passed on to the command.

BIN := .venv/bin
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.12 python3.11 python3.13 python3.14)
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

RELIABILITY := tests/meta_train/runs tests/meta_train/processes tests/meta_train/estimators/test_devices.py

# Families of meta_test on which the pretrained optimizers are compared, at H = 4 and, the cheap ones, at H = 32.
CHEAP_UNSEEN := matrix_sensing,score_matching,random_features,xor_clusters,icl_regression,two_layer_linear,separable_logistic,poisson_quadratic
UNSEEN := $(CHEAP_UNSEEN),pinn_heat,pinn_burgers,omniglot8_mixer,omniglot8_vit,omniglot8_siamese,omniglot8_hypernetwork
PRETRAINED = $(basename $(notdir $(wildcard learned_opt/pretrained/*.safetensors)))
SUITE = $(BIN)/python -m eval suite --batch-size 16 --num-seeds 3 --tuning coarse --max-extensions 4 \
  $(addprefix --checkpoint ,$(PRETRAINED)) $(ARGS)

.PHONY: install demo demo-anchor test test-reliability notebooks notebooks-refresh docs generalization gpu-check lint

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

# What a minute of search adds to auto_diloco, the strong hand-made rule, on the same problem.
demo-anchor: install
	$(BIN)/python -m meta_train.search --from-anchor --problems fmnist8_mlp32,batch_size=32,max_unroll_length=120 \
	  --generations 40 --population 12 --run-dir runs/demo_anchor $(ARGS)
	$(BIN)/python -m eval compare demo --checkpoint runs/demo_anchor/lagg_any.safetensors --out-dir runs/demo_anchor/eval

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# The long versions of the reliability tests: kills, damages, layouts, soak. About 40 minutes on two cores.
test-reliability: install
	nice $(BIN)/python -m pytest -m slow $(RELIABILITY) $(ARGS)

# Every notebook in a kernel, at its smoke setting.
notebooks: install
	$(BIN)/python -m pytest -m slow -n 2 --dist load tests/eval/test_notebooks.py $(ARGS)

# Every notebook at its full setting, its output kept in the .ipynb; ARGS="NAME ..." for some of them.
notebooks-refresh: install
	$(BIN)/python .ci/refresh_notebooks.py $(ARGS)

# The API reference in build/docs, from the docstrings.
docs: install
	$(BIN)/python .ci/api_reference.py build/docs

# The README's generalization tables. 34 minutes on two cores; again to go on after an interruption.
generalization: install
	$(SUITE) $(UNSEEN) --num-rounds 100 --eval-every 2 --run-dir runs/unseen_h4
	$(SUITE) $(CHEAP_UNSEEN) --num-local-steps 32 --num-rounds 50 --run-dir runs/unseen_h32 --eval-every 1

# Tests, speed and memory on a GPU, with the JAX that is there: nothing is installed. At most 9 minutes.
gpu-check:
	$(or $(PYTHON),$(wildcard $(BIN)/python),python3) -m meta_train.gpu_check

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
