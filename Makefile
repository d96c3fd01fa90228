# Skerry: build, test, demo. "make help" lists the targets.
SHELL := /bin/bash

# Everything the targets make lies in .demo, so that one directory holds it all
# and "make clean" knows what to remove.
BIN      := .demo/bin
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BINARIES := ./cmd/cloudproxy ./cmd/edgeagent ./cmd/skerry ./bench/linkemu

# One set of build settings for the product, the demo, e2e and the linter's
# type information: with two sets every dependency is compiled twice. Only the
# race detector needs cgo. grpc's own tracing, which nobody here looks at, brings
# html/template and with it 7 MB: it keeps the linker from dropping methods.
export CGO_ENABLED := 0
PRODUCT := -trimpath -buildvcs=false -tags=grpcnotrace
LINT     = GOFLAGS="$(PRODUCT)" $$(.ci/tool golangci-lint)
STEP    := .ci/step

FUZZTIME   ?= 30s
CHAOSTIME  ?= 15m
SEED       ?=
SEEDS      ?= 2000
LINK       ?=
BENCHFLAGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Build

.PHONY: build
build: ## Build the three binaries and the link emulator into .demo/bin
	@mkdir -p $(BIN)
	@$(STEP) $(QUIET) build go build $(PRODUCT) -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/ $(BINARIES)

.PHONY: gen
gen: ## Write anew what is generated: deep copies and CRDs of devices/v1alpha1
	@.ci/gen

.PHONY: dist
dist: ## Build a release into dist: static binaries, image, chart, manifests, checksums (VERSION=v0.1.0)
	@go run $(PRODUCT) ./manifests/release -version "$(VERSION)" -out dist

.PHONY: devcluster
devcluster: ## Build the dev control plane (cold: ten minutes; kept in ~/.cache/skerry)
	@mkdir -p $(BIN)
	@$(STEP) $(QUIET) devcluster .ci/link $(BIN)

.PHONY: metrics-server
metrics-server: ## Build the metrics-server of the end-to-end tests (cold: four minutes; kept in ~/.cache/skerry)
	@mkdir -p $(BIN)
	@$(STEP) $(QUIET) metrics-server bash -c 'ln -sfn "$$(.ci/tool metrics-server)" $(BIN)/metrics-server'

.PHONY: kubelet
kubelet: ## Build the real kubelet, which bench-pods compares with (cold: three minutes; kept in ~/.cache/skerry)
	@mkdir -p $(BIN)
	@$(STEP) $(QUIET) kubelet bash -c 'ln -sfn "$$(.ci/tool kubelet)" $(BIN)/kubelet'

# After devcluster, with which it has most packages in common.
.PHONY: e2e-test
e2e-test: devcluster ## Build the upstream suite of "make conformance" (cold: ten minutes; kept in ~/.cache/skerry)
	@mkdir -p $(BIN)
	@$(STEP) $(QUIET) e2e-test bash -c 'set -e; for t in ginkgo agnhost nonewprivs e2e.test; do tool=$$(.ci/tool $$t); ln -sfn "$$tool" $(BIN)/$$t; done'

.PHONY: old-kubectl
old-kubectl: ## Unpack Debian's kubectl for the end-to-end tests (kept in ~/.cache/skerry)
	@mkdir -p $(BIN)
	@$(STEP) $(QUIET) old-kubectl bash -c 'ln -sfn "$$(.ci/old-kubectl)" $(BIN)/old-kubectl'

.PHONY: clean
clean: demo-down ## Stop the demo and remove .demo
	rm -rf .demo

# Demo

.PHONY: demo
demo: setup build devcluster ## Run a cloud, an edge behind a bad link, and a pod (LINK=A..E picks the link)
	@go run $(PRODUCT) ./tests/demo up $(if $(LINK),--link $(LINK))

.PHONY: demo-down
demo-down: ## Stop the demo
	@if [ -d .demo ]; then go run $(PRODUCT) ./tests/demo down; fi

# Check

.PHONY: test
test: ## Everything a change must pass: setup, check, e2e, upstream's tests, two minutes of chaos
	@$(MAKE) --no-print-directory setup
	@# Two at a time: what downloads or links leaves a core to what compiles.
	@$(MAKE) --no-print-directory -j2 QUIET=-q check build devcluster metrics-server old-kubectl e2e-test kubelet
	@$(MAKE) --no-print-directory e2e
	@$(MAKE) --no-print-directory conformance-short
	@# One schedule, with faults of all kinds, so that a failure is about the change;
	@# by itself "make chaos" draws another each time.
	@$(MAKE) --no-print-directory chaos CHAOSTIME=2m SEED=3054861417198107410

.PHONY: check
check: tidy format arch lint unit model ## All that needs no cluster: tidy, format, arch, lint, unit, model

.PHONY: setup
setup: ## Install the Debian packages that demo and e2e need, if missing (as root)
	@$(STEP) setup .ci/setup

.PHONY: tidy
tidy: ## Fail if a go.mod is not what the sources need
	@$(STEP) $(QUIET) tidy .ci/tidy

.PHONY: format
format: ## Fail if a file is not formatted (make fmt formats)
	@$(STEP) $(QUIET) format bash -c '$(LINT) fmt --diff'

.PHONY: fmt
fmt: ## Format the sources
	@$(LINT) fmt

.PHONY: lint
lint: ## Run golangci-lint, in the version pinned by tools.mod
	@$(STEP) $(QUIET) lint bash -c '$(LINT) run ./...'
	@$(STEP) $(QUIET) lint-cluster bash -c 'cd tests/cluster && GOFLAGS= CGO_ENABLED=1 $$(../../.ci/tool golangci-lint) run --config ../../.golangci.yml ./controlplane/...'
	@$(STEP) $(QUIET) lint-helm bash -c 'cd tests/helm && GOFLAGS="$(PRODUCT)" $$(../../.ci/tool golangci-lint) run --config ../../.golangci.yml ./...'

.PHONY: arch
arch: ## Check who imports what, package docs and file lengths
	@$(STEP) $(QUIET) arch go test $(PRODUCT) ./tests/arch
	@$(STEP) $(QUIET) edge-deps .ci/edge-deps

.PHONY: unit
unit: ## Run the tests with the race detector, in random order
	@$(STEP) $(QUIET) unit .ci/unit
	@$(STEP) $(QUIET) unit-helm go -C tests/helm test $(PRODUCT) ./...
	@$(STEP) $(QUIET) unit-cluster env CGO_ENABLED=1 go -C tests/cluster test -race -shuffle=on ./controlplane/...

.PHONY: model
model: ## Play SEEDS (2000) random schedules of faults in virtual time against the tunnel and sync
	@$(STEP) $(QUIET) model go test $(PRODUCT) -count=1 -timeout 60m -run '^TestModel$$' ./tunnel ./tests/sync/model -seeds $(SEEDS)

.PHONY: e2e
e2e: build devcluster metrics-server old-kubectl kubelet ## Run the end-to-end tests against a real control plane and containerd (as root)
	@$(STEP) e2e env SKERRY_E2E=1 go test $(PRODUCT) -count=1 -timeout 30m ./tests/e2e/...
	@$(STEP) uplinks env SKERRY_E2E=1 go test $(PRODUCT) -count=1 -timeout 10m ./tests/uplinks/...
	@$(STEP) install env SKERRY_E2E=1 go test $(PRODUCT) -count=1 -timeout 10m ./tests/install/...
	@$(STEP) runtimes env SKERRY_E2E=1 go test $(PRODUCT) -count=1 -p 1 -timeout 20m ./tests/runtimes/... ./tests/systemd/...

.PHONY: cgroup2
cgroup2: ## Run the tests of pods on an emulated machine with Debian's kernel and cgroup v2: ten minutes (as root)
	@$(STEP) setup-machine .ci/setup qemu-system-x86 kmod cpio e2fsprogs apparmor
	@$(STEP) cgroup2 env SKERRY_E2E=1 go test $(PRODUCT) -count=1 -v -timeout 30m ./tests/cgroup2

.PHONY: peers
peers: ## Run device drivers and the local bus against others: libmodbus, modbus-serial, node-opcua, mosquitto (as root)
	@$(STEP) setup-peers .ci/setup mosquitto mosquitto-clients
	@$(STEP) peers env SKERRY_E2E=1 go test $(PRODUCT) -count=1 -p 1 -timeout 20m ./tests/devices/... ./edgeagent/bus/...

.PHONY: chaos
chaos: build ## Break the link at random for CHAOSTIME (15m) under streams of all sorts (as root; SEED=N replays)
	@$(STEP) chaos env SKERRY_E2E=1 CHAOSTIME=$(CHAOSTIME) SEED=$(SEED) go test $(PRODUCT) -count=1 -v -timeout 24h -run '^TestChaos$$' ./tests/chaos

.PHONY: conformance
conformance: setup build devcluster e2e-test ## Run upstream's tests of a node against an edge (as root; LINK=B; BENCHFLAGS="-focus REGEX")
	@$(STEP) conformance go run $(PRODUCT) ./tests/conformance $(if $(LINK),-link $(LINK)) $(BENCHFLAGS)

.PHONY: conformance-short
conformance-short: build devcluster e2e-test ## Run them without the eight that take longest: four minutes (as root)
	@$(STEP) conformance go run $(PRODUCT) ./tests/conformance -short

.PHONY: fuzz
fuzz: ## Fuzz each decoder for FUZZTIME (30s)
	@.ci/fuzz $(FUZZTIME)

# Measure

.PHONY: bench-kubelet
bench-kubelet: setup build devcluster ## Measure kubectl over links A to E, and memory (as root; BENCHFLAGS="-rounds 5")
	@go run $(PRODUCT) ./bench/kubelet $(BENCHFLAGS)

.PHONY: bench-tunnel
bench-tunnel: setup build ## Measure the tunnel beside QUIC, yamux and a WebSocket over links A to E (as root; BENCHFLAGS=-quick)
	@go run $(PRODUCT) ./bench/tunnel $(BENCHFLAGS)

.PHONY: bench-sync
bench-sync: setup build devcluster ## Measure desired state: push, reconnect, idle traffic, wear, beside a WebSocket (as root; BENCHFLAGS=-quick)
	@go run $(PRODUCT) ./bench/sync $(BENCHFLAGS)

.PHONY: bench-pods
bench-pods: setup build devcluster kubelet ## Measure pods beside the real kubelet: times, memory, idle CPU (as root; BENCHFLAGS=-quick)
	@go run $(PRODUCT) ./bench/pods $(BENCHFLAGS)
