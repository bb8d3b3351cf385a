# edgesmith: fine-tune, quantize, serve. `make help` lists targets and variables.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help train quantize serve test test-models check format bench fuzz soak conformance clean distclean

# --- variables a user sets ------------------------------------------------------------------
CONFIG ?=
RUN ?=
TYPES ?=
MODEL ?=
PORT ?=
ARGS ?=
EXAMPLES ?= 200
MINUTES ?= 10
PYTHON ?= python3
TORCH ?= $(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
LLAMA_CMAKE_ARGS ?=
LLAMA_NATIVE ?= ON
LLAMA_WHEEL ?=

# --- where things go ------------------------------------------------------------------------
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMPS := $(VENV)/.stamps
CACHE := .cache
PINS := finetune/requirements-linux-cpu.txt
CONSTRAINTS := $(addprefix -c ,$(wildcard $(PINS)))
TORCH_VERSION := 2.13.0

LLAMA_PIN := serve/runtime/llama-cpp-python.txt
LLAMA_VERSION := $(shell sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' $(LLAMA_PIN))
SDIST := $(CACHE)/llama_cpp_python-$(LLAMA_VERSION).tar.gz
# Left out: multimodal library, tools, examples, tests, command-line support. None is installed.
LLAMA_BUILD_ARGS := -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_APP=OFF \
  -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/serve/runtime/slim.cmake \
  -DGGML_NATIVE=$(LLAMA_NATIVE) $(LLAMA_CMAKE_ARGS)
# One wheel per processor model and set of build arguments; a changed one is built anew.
LLAMA_KEY := $(shell { printf '%s ' '$(LLAMA_VERSION) $(LLAMA_NATIVE) $(LLAMA_CMAKE_ARGS)'; uname -sm; \
  [ '$(LLAMA_NATIVE)' = OFF ] || grep -m1 'model name' /proc/cpuinfo 2>/dev/null; } | cksum | cut -d' ' -f1)
WHEELS := $(CACHE)/llama-wheel-$(LLAMA_KEY)
RUNTIME := $(STAMPS)/runtime-$(if $(LLAMA_WHEEL),$(shell printf '%s' '$(LLAMA_WHEEL)' | cksum | cut -d' ' -f1),$(LLAMA_KEY))

export EDGESMITH_LLAMA_CPP_SDIST := $(CURDIR)/$(SDIST)
say = @printf '\033[1m== %s\033[0m\n' '$(1)' >&2

help:
	@echo 'make train quantize serve   fine-tune the default model, quantize it, serve it on 127.0.0.1:8080'
	@echo
	@echo 'targets'
	@echo '  train       fine-tune        (CONFIG=file.toml, ARGS="--set train.epochs=2")'
	@echo '  quantize    merge, convert, quantize, measure, verify (RUN=dir, TYPES=q8_0,q4_k_m, ARGS=...)'
	@echo '  serve       OpenAI-compatible server (MODEL=file.gguf or run, PORT=8080, ARGS=...)'
	@echo '  test        the whole test suite, with real weights'
	@echo '  check       ruff, mypy and the import rules; changes nothing'
	@echo '  bench       every benchmark, beside the peers that are present; goes on where it was broken off'
	@echo '              (MODEL=file.gguf, LLAMA_SERVER=program, LLAMA_CPP_PYTHON=interpreter, ARGS=...)'
	@echo '  fuzz        many more requests made up from the published OpenAPI than `test` tries (EXAMPLES=200)'
	@echo '  soak        a server under load with clients that go, for MINUTES=10; fails when memory or seats leak (MODEL=file.gguf)'
	@echo '  conformance llama.cpp'"'"'s own server tests, run against this server (ARGS=test_basic.py)'
	@echo '  clean       remove .venv and tool caches; keeps runs/, the llama.cpp archive and its wheel'
	@echo '  distclean   clean, and the llama.cpp archive and wheel; keeps runs/'
	@echo
	@echo 'variables of the installation'
	@echo '  TORCH=cpu|gpu            pinned CPU set, or the ordinary CUDA/ROCm/MLX extra (default: gpu when nvidia-smi works)'
	@echo '  LLAMA_CMAKE_ARGS=...     a GPU build of llama.cpp: -DGGML_CUDA=on, -DGGML_METAL=on, -DGGML_VULKAN=on'
	@echo '  LLAMA_WHEEL=file|url     a prebuilt llama-cpp-python wheel instead of a compile'
	@echo '  LLAMA_NATIVE=OFF         a portable build for containers and other machines'
	@echo '  PYTHON=python3.12        the interpreter of .venv (3.11 or newer)'

# --- the stages -----------------------------------------------------------------------------
train: $(STAMPS)/finetune | runs
	$(PY) -m finetune $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

quantize: $(STAMPS)/quantize | runs
	$(PY) -m quantize $(if $(RUN),--from $(RUN)) $(if $(TYPES),--types $(TYPES)) $(ARGS)

serve: $(STAMPS)/serve | runs
	$(PY) -m serve $(if $(MODEL),--model $(MODEL)) $(if $(PORT),--port $(PORT)) $(ARGS)

# --- development ----------------------------------------------------------------------------
ALL_STAGES := $(STAMPS)/finetune $(STAMPS)/quantize $(STAMPS)/serve $(STAMPS)/clients $(STAMPS)/dev

test-models: $(STAMPS)/finetune
	$(call say,model weights for the tests)
	$(PY) -m finetune base >/dev/null

test: $(ALL_STAGES) test-models
	OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(ALL_STAGES)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m pytest -q tests/test_imports.py

format: $(STAMPS)/dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(STAMPS)/serve $(STAMPS)/clients | runs
	LLAMA_SERVER='$(LLAMA_SERVER)' LLAMA_CPP_PYTHON='$(LLAMA_CPP_PYTHON)' $(PY) -m clients bench --suite $(if $(MODEL),--model $(MODEL)) $(ARGS)

fuzz: $(STAMPS)/serve $(STAMPS)/dev
	EDGESMITH_FUZZ_EXAMPLES=$(EXAMPLES) $(PY) -m pytest -q tests/serve/api/test_openapi.py tests/serve/api/test_fuzz.py $(ARGS)

soak: $(STAMPS)/serve $(STAMPS)/clients
	$(PY) -m clients.bench.soak --model $(MODEL) --minutes $(MINUTES) $(ARGS)

conformance: $(ALL_STAGES) test-models
	$(PY) tests/serve/llama_server_suite/run.py --reasons $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find finetune quantize serve clients tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(CACHE)

# --- installation: each stamp is one thing installed once -----------------------------------
runs:
	mkdir -p runs

$(STAMPS)/venv:
	$(call say,virtual environment)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'edgesmith needs Python 3.11 or newer, and $(PYTHON) is older; set PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(SDIST): $(LLAMA_PIN) | $(STAMPS)/venv
	$(call say,llama-cpp-python $(LLAMA_VERSION) source archive (75 MB))
	@mkdir -p $(CACHE)
	$(PIP) download -q --no-deps --no-binary llama-cpp-python --require-hashes -r $(LLAMA_PIN) -d $(CACHE)
	@touch $@

$(WHEELS)/done: | $(SDIST)
	$(call say,building llama.cpp: about 3 minutes on 2 cores)
	@mkdir -p $(WHEELS)
	@CMAKE_ARGS='$(LLAMA_BUILD_ARGS)' $(PIP) wheel -v --no-deps --no-cache-dir -w $(WHEELS) $(SDIST) 2>&1 \
	  | tee $(WHEELS)/build.log \
	  | awk '/^ *\[[0-9]+\/[0-9]+\]/ {printf "\r   %s ", $$1; fflush()} END {print ""}' >&2 \
	  || { tail -n 40 $(WHEELS)/build.log >&2; echo 'building llama.cpp failed; the whole log: $(WHEELS)/build.log' >&2; exit 1; }
	@touch $@

$(RUNTIME): $(STAMPS)/venv $(if $(LLAMA_WHEEL),,$(WHEELS)/done)
	$(PIP) install -q --force-reinstall --no-deps $(if $(LLAMA_WHEEL),$(LLAMA_WHEEL),$(WHEELS)/*.whl)
	@rm -f $(STAMPS)/runtime-* && touch $@

$(STAMPS)/serve: pyproject.toml $(RUNTIME)
	$(call say,serve)
	$(PIP) install -q $(CONSTRAINTS) -e '.[serve]'
	@touch $@

$(STAMPS)/clients: pyproject.toml $(STAMPS)/venv
	$(call say,clients)
	$(PIP) install -q $(CONSTRAINTS) -e '.[clients,bench]'
	@touch $@

$(STAMPS)/dev: pyproject.toml $(STAMPS)/venv
	$(call say,development tools)
	$(PIP) install -q $(CONSTRAINTS) -c tests/constraints.txt -e '.[dev]'
	@touch $@

# The CPU build of torch has a local version (+cpu) that pip prefers wherever the extra index
# answers; where it does not, the ordinary index decides and the second line completes its needs.
$(STAMPS)/torch-$(TORCH): $(STAMPS)/venv
	$(call say,torch ($(TORCH)))
ifeq ($(TORCH),cpu)
	$(PIP) install -q --no-deps --retries 0 --extra-index-url $(TORCH_INDEX) torch==$(TORCH_VERSION)
	$(PIP) install -q $(CONSTRAINTS) torch==$(TORCH_VERSION)
else
	$(PIP) install -q 'torch>=2.11,<2.15'
endif
	@touch $@

# With the server, which the parity gate asks over HTTP.
$(STAMPS)/quantize: pyproject.toml $(STAMPS)/torch-$(TORCH) $(RUNTIME) $(SDIST)
	$(call say,quantize)
	$(PIP) install -q $(if $(filter cpu,$(TORCH)),$(CONSTRAINTS)) -e '.[quantize,serve]'
	@touch $@

# The CPU set is complete and exact, so pip need not (and, for reasons the file gives, must not)
# look for more. Only Linux on x86-64 has it; anything else takes the ordinary extra.
PINNED := $(and $(filter cpu,$(TORCH)),$(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)))
$(STAMPS)/finetune: pyproject.toml $(STAMPS)/torch-$(TORCH) $(PINS)
	$(call say,finetune)
ifneq ($(PINNED),)
	$(PIP) install -q --no-deps -r $(PINS)
	$(PIP) install -q --no-deps -e .
else
	$(PIP) install -q -e '.[finetune]'
endif
	@touch $@
