# `make demo` and `make test` do all set-up themselves: they need Python >= 3.11, make and a C++ compiler, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CXX_FILES := $(shell find fastann/kernels -name '*.[ch]pp')
CORE := $(shell find fastann/kernels/src -name '*.[ch]pp') fastann/kernels/CMakeLists.txt

.PHONY: demo test test-fast test-extras check format bench docs notebooks sanitize wheel-test clean

demo: $(VENV)/.core
	@echo "fastann: running the demo"
	@$(BIN)/fastann demo --out runs/demo --force

# Two files of tests at a time.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not slow" tests/test_kernels.py tests/test_project.py tests/test_index.py tests/test_sweep.py

# What needs the heavy extras: tensors, maps by UMAP, which compiles at first use, and notebooks of models.
test-extras: $(VENV)/.extras
	$(BIN)/python -m pytest -q tests/test_tensors.py
	$(BIN)/python -m pytest -q tests/test_evaluate.py -k umap
	$(BIN)/python -m pytest -q tests/test_notebooks.py -k "04_image_features or 05_texts or 06_topics or 09_prototype_classifier"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	$(BIN)/python tools/stubs.py --check
	$(BIN)/python tools/symbols.py

# The site, in build/docs: every warning is an error, and every link between pages is followed.
docs: $(VENV)/.docs
	@rm -rf build/docs docs/api docs/gallery docs/notebooks  # examples draw anew what the package draws now
	$(BIN)/sphinx-build -E -W --keep-going -q -b html docs build/docs
	$(BIN)/python tools/links.py build/docs
	$(BIN)/python -m pytest -q tests/test_docs.py
	@echo "fastann: open build/docs/index.html"

# The notebooks, executed anew from their sources: NOTEBOOKS="01_kmeans" takes some of them.
notebooks: $(VENV)/.extras
	$(BIN)/python tools/notebooks.py $(NOTEBOOKS)

# The core's own tests, under what finds wrong addresses, undefined behaviour and races.
sanitize: $(VENV)/.core
	PATH="$(abspath $(BIN)):$$PATH" sh tools/sanitize.sh

# A wheel that is installed and used where no compiler is.
wheel-test: $(VENV)/.core
	$(BIN)/python tools/wheel_test.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

bench: $(VENV)/.dev
	$(BIN)/python -m bench flat --redo
	$(BIN)/python -m bench memory --redo

# The environment in steps: build tools, libraries, then the package itself, whose core is compiled here. It is compiled
# without isolation, so that a later make compiles only what changed.
$(VENV)/.tools: pyproject.toml
	@echo "fastann: creating the environment in $(VENV), with the build tools"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install $$($(PYTHON) tools/build_tools.py)
	@touch $@

$(VENV)/.libraries: $(VENV)/.tools
	@echo "fastann: installing NumPy, SciPy, scikit-learn, FAISS and what the report needs (a minute, once)"
	@$(PIP) install $$($(PYTHON) tools/build_tools.py cpu demo report)
	@touch $@

$(VENV)/.core: $(VENV)/.libraries $(CORE)
	@echo "fastann: compiling the core (a minute or two, once)"
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "fastann: installing what the tests need"
	@$(PIP) install $$($(PYTHON) tools/build_tools.py dev)
	@touch $@

$(VENV)/.docs: $(VENV)/.dev
	@echo "fastann: installing what the site needs"
	@$(PIP) install $$($(PYTHON) tools/build_tools.py docs)
	@touch $@

$(VENV)/.extras: $(VENV)/.dev
	@echo "fastann: installing torch, umap-learn and what notebooks of models need"
	@$(PIP) install torch==2.13.0 $$($(PYTHON) tools/build_tools.py umap notebooks-models)
	@touch $@

clean:
	rm -rf $(VENV) build runs docs/api docs/gallery docs/notebooks docs/project .pytest_cache .mypy_cache .ruff_cache
