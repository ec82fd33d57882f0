# simclr-service. `make help` lists the targets.

PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
NEEDED := Python 3.11 or newer is needed: install it, or name it with make setup PYTHON=/path/to/python3.11
BIN := .venv/bin
DATA ?=
DATA_DIR ?= simclr-data
HOST ?= 127.0.0.1
PORT ?= 8000
EXAMPLES ?= 50

.PHONY: help setup demo experiments up docs test mutations check bench serving throughput cifar10 contract chaos load lock sbom mutation-score

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.ready ## the environment, in .venv (PyTorch is a download of several GB)

.venv/.ready: requirements.lock pyproject.toml
	@test -n '$(PYTHON)' || { echo '$(NEEDED)' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(NEEDED); $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## everything once, over HTTP, on DATA=folder-or-archive (default: CIFAR-10, or generated images offline)
	$(BIN)/simclr demo --data-dir $(DATA_DIR) --port $(PORT) $(if $(DATA),--data "$(DATA)")

experiments: setup ## the paper's own questions as jobs, on DATA=folder-or-archive with classes: one HTML report
	$(BIN)/simclr experiments --data-dir $(DATA_DIR) --port $(PORT) $(if $(DATA),--data "$(DATA)")

up: setup ## the whole service in the foreground, on DATA_DIR, HOST and PORT
	$(BIN)/simclr up --data-dir $(DATA_DIR) --host $(HOST) --port $(PORT)

docs: setup ## the documents as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # with --quiet it would not see its warnings
	@echo "open site/index.html, or serve it: $(BIN)/python -m http.server --directory site"

test: setup ## all tests, with a real PostgreSQL, Redis and HTTP
	$(BIN)/pytest -n 2 --dist loadfile tests/docker tests/models tests/service tests/trainer/augment tests/trainer/losses tests/trainer/probes
	$(BIN)/pytest tests/trainer/test_*.py tests/test_*.py tests/web tests/docs  # training takes all cores, and faults are timed: one by one

mutations: setup ## break the mathematics line by line: the tests have to notice each
	$(BIN)/python -m tests.mutations

mutation-score: setup ## mutants of what guards the service (keys, limits, storage, jobs), and how many the tests notice
	$(BIN)/python -m pip install --disable-pip-version-check "mutmut>=3.8,<4"
	$(BIN)/python benchmarks/mutation_score.py

check: setup ## what CI runs: format, lint, types, import contracts, tests, mutations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test
	$(MAKE) mutations

bench: setup ## how often a distorted copy of a photograph finds its original, after a short training; DATA=folder-or-archive
	$(BIN)/python benchmarks/photo_copies.py --port $(PORT) --photos "$(DATA)"

serving: setup ## what serving costs beside ONNX Runtime and a simple endpoint, a flood, switches; DATA=tar of photographs
	$(BIN)/python benchmarks/serve.py $(if $(DATA),--photos "$(DATA)")
	$(BIN)/python benchmarks/overload.py $(if $(DATA),--photos "$(DATA)")

throughput: setup ## images/s of training beside its step alone and beside lightly
	$(BIN)/python -m pip install --disable-pip-version-check -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/train_throughput.py

cifar10: setup ## top-1 on CIFAR-10 by epochs, and with labels; DATA=archive of train/CLASS/*.jpg and test/CLASS/*.jpg
	$(BIN)/python benchmarks/cifar10.py --data "$(DATA)"

contract: setup ## fuzz the HTTP API against its OpenAPI document with schemathesis; EXAMPLES=50 of each operation and phase
	$(BIN)/python -m tests.contract --examples $(EXAMPLES)

chaos: setup ## kill every part of the service, fill its disk, storm its door: which promises are kept, in five minutes
	$(BIN)/python benchmarks/chaos.py

load: setup ## five minutes of everything at once against an API: does it stay well, and keep its size?
	$(BIN)/python benchmarks/mixed_load.py

UV_COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --no-header

lock: ## pin the newest versions, with hashes and without addresses (needs uv): requirements.lock, and the images' parts of it
	$(UV_COMPILE) --upgrade --all-extras --group dev pyproject.toml -o requirements.lock
	$(UV_COMPILE) --constraint requirements.lock pyproject.toml -o docker/requirements-api.lock
	$(UV_COMPILE) --constraint requirements.lock --extra train pyproject.toml -o docker/requirements-worker.lock
	$(UV_COMPILE) --constraint requirements.lock --group build -o docker/requirements-build.lock

SBOM_TOOL := cyclonedx-bom==7.5.0

sbom: ## what the images hold, from their locks, as CycloneDX: docker/sbom-api.json, docker/sbom-worker.json (needs uv)
	for part in api worker; do \
		uv tool run --from $(SBOM_TOOL) cyclonedx-py requirements docker/requirements-$$part.lock \
			--output-reproducible -o docker/sbom-$$part.json || exit; \
	done
