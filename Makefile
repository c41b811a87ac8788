# Two commands on a fresh machine: `make demo` (a photo to a mesh) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo test test-slow fuzz lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/g2s reconstruct examples/portrait.jpg -o demo/ --overwrite
	$(BIN)/g2s rotate demo/ --yaw -25:25 --frames 13 --overwrite --quiet
	$(BIN)/g2s view demo/ --overwrite --quiet
	@echo
	@echo "Open demo/view.html in a browser to turn and light it. The mesh is demo/mesh.glb, a turntable demo/rotate/rotate.gif."
	@echo "Next: . $(VENV)/bin/activate, then g2s reconstruct YOUR.jpg -o out/"

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Half an hour at most; ARGS="--seed 1 --case photo:17 -v" repeats one case.
fuzz: $(VENV)/installed-dev
	$(BIN)/python tests/fuzz $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_size.py

clean:
	rm -rf $(VENV) demo out build dist *.egg-info

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit("g2s needs Python 3.11 or newer; name one with make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/python
	$(PIP) -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/python
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/installed
