# Everything a person types. Environments are made once per VENV and remembered by stamp files, so a second run is quick.
CHECKPOINT ?= checkpoints/nano
TEXT ?= The birch canoe slid on the smooth planks.
SPEAKER ?= rms
OUT ?= hello.wav
# What a person typed stays as it is: make would put variables in place of $5 and run $(shell ...).
override CHECKPOINT := $(value CHECKPOINT)
override TEXT := $(value TEXT)
override SPEAKER := $(value SPEAKER)
override OUT := $(value OUT)
export CHECKPOINT TEXT SPEAKER OUT
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# Folder of what `make bench` measures; benchmarks/results holds the committed figures.
RESULTS ?= build/benchmarks
HTTP_PORT ?= 8000
GRPC_PORT ?= 8001
METRICS_PORT ?= 8002
# Asked for torch's CPU build only where pip's own sources would give the CUDA build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Extra options for pytest, such as PYTEST="-k text -x".
PYTEST ?=
# Test files run at a time; each uses one thread, because threads that wait by spinning take the other files' cores.
# One more than two cores can work on: the tests of servers often wait.
TEST_PROCESSES ?= 3

PY := $(VENV)/bin/python
PORTS := --http-port $(HTTP_PORT) --grpc-port $(GRPC_PORT) --metrics-port $(METRICS_PORT)
export TORCH_INDEX

.DEFAULT_GOAL := help
.PHONY: help say serve check test lint check-generated engines smoke train bench clean libpython flite espeak-ng fortunes libb64

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

say: $(VENV)/.serve libpython ## speak: make say TEXT="..." SPEAKER=rms OUT=hello.wav
	@$(PY) -m tritone.serve "$$CHECKPOINT" --target cpu $(PORTS) \
		--run $(PY) client/speak.py --speaker="$$SPEAKER" --output="$$OUT" --url 127.0.0.1:$(GRPC_PORT) -- "$$TEXT"

serve: $(VENV)/.serve libpython ## a server on HTTP_PORT, GRPC_PORT and METRICS_PORT until Ctrl-C
	@$(PY) -m tritone.serve "$$CHECKPOINT" --target cpu $(PORTS)

check: $(VENV)/.serve libpython ## load every model, speak once through each entry, exit
	@$(PY) -m tritone.serve "$$CHECKPOINT" --target cpu $(PORTS) --check

test: $(VENV)/.test libpython flite espeak-ng ## every test that needs no GPU
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(PY) -m pytest -q -n $(TEST_PROCESSES) $(PYTEST)

lint: $(VENV)/.test ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

check-generated: $(VENV)/.test ## the committed model repository and tables equal what would be rendered
	$(PY) export/repository.py --check
	$(PY) export/docs.py --check

engines: $(VENV)/.test ## every format of the voice in both precisions, compared and spoken: build/engines, parity.html
	$(PY) export/build_engines.py --model-dir "$$CHECKPOINT" --out build/engines --quick \
		--formats torchscript,onnx,tensorrt,llm --precision fp32,fp16
	$(PY) export/build_engines.py --model-dir "$$CHECKPOINT" --out build/engines --quick --target gpu --formats llm
	$(PY) export/parity.py --model-dir "$$CHECKPOINT" --out build/engines --formats torchscript,onnx --precision fp16 --quick \
		--say="$$TEXT" --json build/engines/parity.json --html build/engines/parity.html

smoke: $(VENV)/.test flite fortunes ## the whole training recipe in miniature
	$(PY) -m training cosyvoice --smoke

train: $(VENV)/.test flite fortunes ## the nano voice from nothing, hours on two cores
	$(PY) -m training cosyvoice --data data/nano --out "$$CHECKPOINT" --exclude benchmarks/harvard.txt

bench: $(VENV)/.test libpython flite libb64 ## word error rate, load and streaming cost of a server of its own
	$(PY) -m tritone.serve "$$CHECKPOINT" --streams=8 --target cpu $(PORTS) --run sh -c \
		'$(PY) benchmarks/quality.py --folder $(RESULTS) --url 127.0.0.1:$(GRPC_PORT) && \
		$(PY) benchmarks/load.py --folder $(RESULTS) --url 127.0.0.1:$(GRPC_PORT) --pid $$PPID'
	$(PY) benchmarks/cosyvoice/streaming.py --results $(RESULTS) "$$CHECKPOINT"

clean: ## remove the environment, exports and caches; training runs and data stay
	rm -rf $(VENV) build .pytest_cache .ruff_cache .mypy_cache *.egg-info

# Environments. `serve` is what speaking needs (server, client, export); `test` adds training and the checkers.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "error: Tritone needs Python 3.11, found '$(PYTHON)'; run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: on Debian run: apt-get install python3.11-venv" >&2; exit 1; }

$(VENV)/.torch: docker/install_torch.py | $(VENV)/bin/python
	$(PY) docker/install_torch.py
	@touch $@

$(VENV)/.serve: pyproject.toml $(VENV)/.torch
	$(PY) -m pip install -e '.[client,serve,export]'
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.torch
	$(PY) -m pip install -e '.[client,serve,export,train,benchmark,test,tensorrt-rtx]'
	@touch $@ $(VENV)/.serve

# Debian packages, each asked for only by the target that needs it.
libpython: | $(VENV)/.torch
	@$(PY) -c 'from tritone.supervisor.locate import libpython; libpython()' 2>/dev/null || docker/apt.sh libpython3.11 \
		"Triton's Python backend is linked against libpython3.11.so.1.0"

flite:
	@command -v flite >/dev/null || docker/apt.sh flite "the training corpus is spoken by flite's voices"

espeak-ng:
	@command -v espeak-ng >/dev/null || docker/apt.sh espeak-ng "the three-language corpus is spoken by espeak-ng, too"

fortunes:
	@test -d /usr/share/games/fortunes || docker/apt.sh fortunes "the training sentences are cut from the texts of fortunes"

libb64:
	@ldconfig -p | grep -q libb64.so.0d || docker/apt.sh libb64-0d "perf_analyzer is linked against libb64"
