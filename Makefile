# The project's commands. `make` without a target prints them as a table.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/pytest
FAST_LEVELS := tests/unit tests/contract tests/consistency tests/chart

# Parallel tests: one per core if they only compute, few if each starts its own real servers.
WORKERS ?= auto
SERVER_WORKERS ?= 3

# Cores for `make bench`. The targets are for two cores that run everything.
BENCH_CORES ?= 2

# For `make run`: any value also starts a Prometheus with the chart's rules and alerts.
OBSERVE ?=

# For `make cluster-up`: any of keda, metrics-server, prometheus.
ADDONS ?=

# For `make test-cluster`: any value also runs the tests that take too long for daily use.
FULL ?=

# For `make chaos` (300 seconds at 2,000 hits per second) and `make soak` (1,200 seconds at 1,500). Without SEED they
# choose a random seed and print it. JSON=FILE also writes the report to that file.
DURATION ?=
RATE ?=
SEED ?=
JSON ?=
load_options = --duration $(or $(DURATION),$(1)) --rate $(or $(RATE),$(2)) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

# For commands that `make setup` does not install: print where to get them instead of the shell's `not found`.
need = $(1) >/dev/null 2>&1 || { echo "$(1): not found. To get it: $(2)" >&2; exit 1; }

##@ Use

.PHONY: run
run: $(READY) ## Set up what is missing, then run Redis, Elasticsearch, one API and one indexer on this machine
	@$(BIN)/hitcounter-devstack run $(if $(OBSERVE),--observe)

.PHONY: doctor
doctor: $(READY) ## List what this machine has and lacks, and how to install what is missing
	@$(BIN)/hitcounter-devstack doctor; status=$$?; $(BIN)/hitcounter-cluster doctor; exit $$status

.PHONY: clean
clean: ## Remove the local data and everything that was built here (download caches are kept)
	rm -rf .data .venv .uv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

##@ Check

.PHONY: test
test: servers ## Set up what is missing, then run every test that needs no cluster
	@tools/helm.sh
	$(PYTEST) $(FAST_LEVELS) -n $(WORKERS) -q
	$(PYTEST) tests/integration -n $(SERVER_WORKERS) --dist loadfile -q
	$(PYTEST) tests/chaos -q
	$(PYTEST) tests/soak -q

.PHONY: check
check: $(READY) ## Check formatting, lint, types, the layers (import-linter), the workflows of CI, and the language of texts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.renovate renovate.json
	$(BIN)/python tools/prose.py

.PHONY: docs
docs: $(READY) ## Build the documentation site in dist/site; fails on a broken link
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: chaos
chaos: servers ## Inject faults of every kind under load for DURATION seconds, then compare the count of every id
	@$(BIN)/python -m tests.chaos $(call load_options,300,2000)

.PHONY: soak
soak: servers ## Inject long faults at the default settings for DURATION seconds; check all guarantees and waiting times
	@$(BIN)/python -m tests.soak $(call load_options,1200,1500)

.PHONY: bench
bench: servers ## Measure throughput and latency, compared with a bare endpoint, on two cores; takes 15 minutes
	@$(BIN)/hitcounter-benchmark suite --cores $(BENCH_CORES)

##@ Test on Kubernetes

.PHONY: cluster-up
cluster-up: $(READY) ## Start a real Kubernetes on this machine with our images and ADDONS; run again to update it
	@$(BIN)/hitcounter-cluster up $(ADDONS)

.PHONY: cluster-down
cluster-down: $(READY) ## Remove that Kubernetes and everything on it
	@$(BIN)/hitcounter-cluster down

.PHONY: test-cluster
test-cluster: servers ## Test the chart, the images and the operator on a real Kubernetes; FULL=1 also runs the long tests
	@tools/helm.sh
	@$(BIN)/hitcounter-cluster setup
	$(PYTEST) tests/cluster -q $(if $(FULL),,-m "not full")

##@ Develop

.PHONY: setup
setup: $(READY) ## Create .venv with the locked dependencies and all commands

.PHONY: servers
servers: $(READY) ## Download the real Redis and Elasticsearch that the tests need
	@$(BIN)/hitcounter-devstack setup

.PHONY: format
format: $(READY) ## Format the code and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: generate
generate: $(READY) ## Write the generated files: the protobuf module, tables in docs/, the OpenAPI document, the CRD
	tools/generate.sh
	$(BIN)/python tools/docgen.py
	$(BIN)/python tools/appendix.py
	$(BIN)/python -m tests.contract.api.server > docs/openapi.json
	$(BIN)/python tools/crd.py
	$(BIN)/python tools/chart.py values
	$(BIN)/python tools/chart.py table
	$(BIN)/python tools/chart.py manifests
	$(BIN)/python tools/chart.py rules
	$(BIN)/python tools/dashboards.py
	$(BIN)/python -m tools.simulator

.PHONY: lock
lock: $(READY) ## Re-resolve the dependencies into requirements/*.lock
	tools/lock.sh

##@ Ship

.PHONY: images
images: ## Build the images and test each; uses a substitute base image if no registry can be reached
	tools/images.sh

.PHONY: pin
pin: ## Pin the base images by digest; requires a registry
	tools/pin.sh

.PHONY: dev
dev: ## Build, install on the current cluster and redeploy on each edit (Skaffold)
	@$(call need,skaffold version,https://skaffold.dev/docs/install; without it: see docs/quickstart.md)
	skaffold dev --profile dev

.PHONY: run-docker
run-docker: ## Run everything in containers (Docker Compose): API on port 8001, Elasticsearch on port 9200
	@$(call need,docker compose version,https://docs.docker.com/get-docker; without it: make run)
	docker compose up --build

.PHONY: clean-docker
clean-docker: ## Remove these containers, their data and their images
	docker compose --profile kibana down --volumes --rmi local

##@ Help

.PHONY: help
help: ## Print this list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
		/^[a-z-]+:.*##/ {printf "  \033[36m%-14s\033[0m%s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): tools/setup.sh requirements/dev.lock pyproject.toml $(wildcard packages/*/pyproject.toml services/*/pyproject.toml tools/*/pyproject.toml)
	@bash tools/setup.sh
