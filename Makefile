# Every command of the house. `make` alone prints this as a table.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/pytest
FAST_RINGS := tests/unit tests/contract tests/consistency tests/chart

# Tests at a time: as many as there are cores where they only compute; few where each has real servers of its own.
WORKERS ?= auto
SERVER_WORKERS ?= 3

# Of `make bench`: the goals are for two, with everything on them.
BENCH_CORES ?= 2

# Of `make run`: anything in it also starts a Prometheus, with the rules and alerts of the chart.
OBSERVE ?=

# Of `make cluster-up`: any of keda, metrics-server, prometheus.
ADDONS ?=

# Of `make test-cluster`: anything in it also runs what takes too long for every day.
FULL ?=

# Of `make chaos` (300 seconds at 2,000 hits a second) and `make soak` (1,200 at 1,500); without a seed they draw one and
# print it, and JSON=FILE has the report written there as well.
DURATION ?=
RATE ?=
SEED ?=
JSON ?=
load_options = --duration $(or $(DURATION),$(1)) --rate $(or $(RATE),$(2)) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

# Of commands that nothing here brings: say where to get one, in place of the shell's `not found`.
need = $(1) >/dev/null 2>&1 || { echo "$(1): not found. To get it: $(2)" >&2; exit 1; }

##@ Use

.PHONY: run
run: $(READY) ## Set up what is missing, then run Redis, Elasticsearch, one API and one indexer here
	@$(BIN)/hitcounter-devstack run $(if $(OBSERVE),--observe)

.PHONY: doctor
doctor: $(READY) ## Say what this machine has and lacks, and how to get it
	@$(BIN)/hitcounter-devstack doctor; status=$$?; $(BIN)/hitcounter-cluster doctor; exit $$status

.PHONY: clean
clean: ## Remove the local data and everything that was built here (caches of downloads stay)
	rm -rf .data .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

##@ Check

.PHONY: test
test: servers ## Set up what is missing, then run every test that needs no cluster
	@tools/helm.sh
	$(PYTEST) $(FAST_RINGS) -n $(WORKERS) -q
	$(PYTEST) tests/integration -n $(SERVER_WORKERS) --dist loadfile -q
	$(PYTEST) tests/chaos -q
	$(PYTEST) tests/soak -q

.PHONY: check
check: $(READY) ## Check formatting, lint, types, the layers (import-linter), and the workflows of CI
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.renovate renovate.json

.PHONY: docs
docs: $(READY) ## Build the documentation as a site in dist/site; fails on a broken link
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: chaos
chaos: servers ## Kill, cut, slow and fill everything under load for DURATION seconds, then compare every id
	@$(BIN)/python -m tests.chaos $(call load_options,300,2000)

.PHONY: soak
soak: servers ## Faults that last at shipped settings for DURATION seconds; no promise may break, and nobody wait too long
	@$(BIN)/python -m tests.soak $(call load_options,1200,1500)

.PHONY: bench
bench: servers ## Measure the path of a hit beside a bare endpoint, all processes real, on two cores: a quarter of an hour
	@$(BIN)/hitcounter-benchmark suite --cores $(BENCH_CORES)

##@ Try on Kubernetes

.PHONY: cluster-up
cluster-up: $(READY) ## Bring up a real Kubernetes here, with our images and ADDONS; again: only what is new
	@$(BIN)/hitcounter-cluster up $(ADDONS)

.PHONY: cluster-down
cluster-down: $(READY) ## Take it away, with everything that is on it
	@$(BIN)/hitcounter-cluster down

.PHONY: test-cluster
test-cluster: servers ## Try the chart, the images and the operator on a real Kubernetes; FULL=1: in every way
	@tools/helm.sh
	@$(BIN)/hitcounter-cluster setup
	$(PYTEST) tests/cluster -q $(if $(FULL),,-m "not full")

##@ Develop

.PHONY: setup
setup: $(READY) ## Make .venv with the locked dependencies and every command

.PHONY: servers
servers: $(READY) ## Fetch the real Redis and Elasticsearch that the tests need
	@$(BIN)/hitcounter-devstack setup

.PHONY: format
format: $(READY) ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: generate
generate: $(READY) ## Write the generated files: the protobuf module, tables of docs/, the OpenAPI document, the CRD
	tools/generate.sh
	$(BIN)/python tools/docgen.py
	$(BIN)/python tools/appendix.py
	$(BIN)/python -m tests.contract.api.server > docs/openapi.json
	$(BIN)/python tools/crd.py
	$(BIN)/python tools/chart.py table
	$(BIN)/python tools/chart.py manifests
	$(BIN)/python tools/chart.py rules
	$(BIN)/python tools/dashboards.py
	$(BIN)/python -m tools.simulator

.PHONY: lock
lock: $(READY) ## Resolve the dependencies anew into requirements/*.lock
	tools/lock.sh

##@ Ship

.PHONY: images
images: ## Build the images, from a stand-in base where no registry can be reached, and try each
	tools/images.sh

.PHONY: pin
pin: ## Write the digests of the base images, where a registry can be reached
	tools/pin.sh

.PHONY: dev
dev: ## Build, install on the current cluster and keep in step with the code (Skaffold)
	@$(call need,skaffold version,https://skaffold.dev/docs/install; the way without it: docs/quickstart.md)
	skaffold dev --profile dev

.PHONY: run-docker
run-docker: ## The whole path in containers: API 8001, Elasticsearch 9200
	@$(call need,docker compose version,https://docs.docker.com/get-docker; the way without it: make run)
	docker compose up --build

.PHONY: clean-docker
clean-docker: ## Remove these containers, their data and their images
	docker compose --profile kibana down --volumes --rmi local

##@ Help

.PHONY: help
help: ## Print this
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
		/^[a-z-]+:.*##/ {printf "  \033[36m%-14s\033[0m%s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): tools/setup.sh requirements/dev.lock pyproject.toml $(wildcard packages/*/pyproject.toml services/*/pyproject.toml tools/*/pyproject.toml)
	@bash tools/setup.sh
