# `make run` and `make test` do all their own set-up. What they build is kept outside the tree, in $(CACHE).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
HYPERVISOR ?= libvirt
CACHE := $(or $(VMPOWER_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vmpower)
VENV := $(CACHE)/venv
PY := $(VENV)/bin/python
BIN := $(VENV)/bin
export VMPOWER_CACHE := $(CACHE)
export PATH := $(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=

# An environment is as good as the requirements it was made from: the stamp bears their hash.
stamp = $(VENV)/.$(1)-$(shell cat $(foreach part,$(1),requirements/$(part).txt) | sha256sum | cut -c1-12)
APP := $(call stamp,app)
LIBVIRT := $(call stamp,libvirt)
DEV := $(call stamp,dev)
FUZZ := $(call stamp,fuzz)
# By which libvirt-python is compiled.
BINDING := gcc libc6-dev libvirt-dev pkg-config python3-dev
RELEASED := protos/power/v1/released.binpb

.PHONY: help run run-k8s test soak fuzz lint types unit e2e conformance images bare bench dist deb proto release-contract docs format venv packages guests clean lock
help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: setup-$(HYPERVISOR) ## Boot four guests and bring them down as examples/ says (HYPERVISOR=libvirt or sim)
	@$(PY) -m examples.run --hypervisor $(HYPERVISOR)

run-k8s: setup-$(HYPERVISOR) setup-k8s ## The same on a Kubernetes API server of our own, with kubectl
	@$(PY) -m examples.run_k8s --hypervisor $(HYPERVISOR)

test: lint setup-libvirt setup-k8s setup-vsphere setup-govc setup-soak setup-monitoring setup-nut setup-installed ## Everything: lint, types, unit, end-to-end and conformance tests
	@$(BIN)/pytest -n 6 tests/e2e tests/conformance tests/soak tests/simulation tests/unit

soak: $(DEV) setup-libvirt setup-soak ## Random histories with real processes, audited: MINUTES=30 SEED=1, or simulated: SEEDS=20000, PLANS=2000
	@$(if $(SEEDS),$(PY) -m tests.simulation --seeds $(SEEDS))
	@$(if $(PLANS),$(PY) -m tests.simulation.plans --seeds $(PLANS))
	@$(if $(SEEDS)$(PLANS),,$(PY) -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)))
	@$(if $(SEEDS)$(PLANS),,$(MAKE) --no-print-directory fuzz)

fuzz: $(DEV) $(FUZZ) ## 100,000 random requests to a provider, then a minute of random files: SEED=1
	@$(PY) -m tests.fuzz $(if $(SEED),--seed $(SEED))
	@if $(PY) -c 'import atheris' 2> /dev/null; then $(PY) -m tests.fuzz.reader --seconds 60; \
	  else echo "atheris is not made for this platform; the readers of files are fuzzed by make unit alone"; fi

unit: $(DEV) $(LIBVIRT) ## The quick tests
	@$(BIN)/pytest tests/unit

e2e: $(DEV) setup-libvirt setup-k8s setup-vsphere setup-govc setup-monitoring setup-nut setup-installed ## Real guests, real processes
	@$(BIN)/pytest tests/e2e

conformance: $(DEV) ## The suite against any server: make conformance ADDR=unix:///path VMS=roles.yaml
	@$(BIN)/pytest tests/conformance --addr '$(ADDR)' $(if $(VMS),--vms '$(VMS)')

images: $(DEV) setup-images ## The image and docker-compose.yml by a real container engine of its own: some minutes; needs root
	@$(BIN)/pytest tests/images

bare: $(DEV) ## README's promise on a bare Debian 12 and 13: make run HYPERVISOR=sim and make unit; minutes each; needs root
	@tests/rigs/packages.sh $(CACHE) mmdebstrap
	@$(BIN)/pytest tests/bare

bench: $(DEV) setup-libvirt setup-k8s setup-vsphere setup-govc ## Tables of speed and cost; also written to .run/bench/
	@$(PY) -m tests.bench

dist: $(DEV) ## One wheel and one source distribution, in dist/; needs no network
	@rm -rf build dist
	@$(PY) -W ignore -c 'from setuptools import build_meta as b; b.build_sdist("dist"); b.build_wheel("dist")'

deb: dist setup-deb ## A Debian package of it, in dist/, for the release of Debian or Ubuntu that this machine runs
	@packaging/deb/build.sh $(CACHE) $(PY) dist

lint: $(DEV) $(LIBVIRT) ## Style, types, layers, the contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml cli client common controller plans providers examples docs
	@$(PY) -m tests.pinned
	@$(PY) -m pip --quiet --disable-pip-version-check check
	@$(BIN)/buf lint
	@$(BIN)/buf breaking --against $(RELEASED)
	@tests/generated.sh $(PY)

format: $(DEV) ## Let ruff put the code in order
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proto: $(DEV) ## Generate the stubs beside the contract
	@$(PY) -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. \
	  protos/power/v1/power.proto protos/plan/v1/plan.proto

release-contract: $(DEV) ## Take the contract as it is for the one that later changes must not break
	@[ ! -e $(RELEASED) ] || $(BIN)/buf breaking --against $(RELEASED)
	@$(BIN)/buf build --exclude-source-info -o $(RELEASED)

docs: $(DEV) ## Generate docs/reference.md from the code
	@$(PY) -m docs.reference docs/reference.md

venv: $(APP) ## The environment that the programs run in

setup-sim: $(APP)
setup-libvirt: $(APP) $(LIBVIRT) guests

setup-k8s: $(DEV)
	@[ -e /etc/ssl/certs/ca-certificates.crt ] || tests/rigs/packages.sh $(CACHE) ca-certificates
	@$(PY) -m tests.rigs.kubernetes.binaries > /dev/null
	@$(PY) -m tests.rigs.kubernetes.third_party > /dev/null

setup-vsphere: $(DEV)
	@$(PY) -m tests.rigs.vsphere.vcenter > /dev/null

setup-soak:
	@tests/rigs/packages.sh $(CACHE) libfaketime

setup-monitoring: $(DEV)
	@tests/rigs/packages.sh $(CACHE) curl
	@$(PY) -m tests.rigs.prometheus > /dev/null

setup-nut: $(DEV)
	@$(PY) -m tests.rigs.nut.programs > /dev/null

setup-deb: $(DEV)
	@tests/rigs/packages.sh $(CACHE) dpkg-dev $(BINDING)
	@packaging/deb/build.sh $(CACHE) $(PY) > /dev/null

setup-installed: setup-deb
	@tests/rigs/packages.sh $(CACHE) mmdebstrap pipx python3-venv python3-wheel-whl
	@$(PY) -m tests.rigs.debian.machine > /dev/null
	@tests/rigs/wheels.sh $(CACHE) $(PY) > /dev/null

setup-images: $(DEV) setup-k8s setup-monitoring
	@tests/rigs/packages.sh $(CACHE) iptables libdevmapper1.02.1 mmdebstrap
	@$(PY) -m tests.rigs.docker.engine > /dev/null

setup-govc: $(DEV)
	@$(PY) -m tests.rigs.vsphere.govc > /dev/null

packages: ## Debian's or Ubuntu's packages for real guests
	@tests/rigs/packages.sh $(CACHE)

guests: packages ## The guests' kernel and initramfs
	@tests/rigs/guests/build.sh $(CACHE) > /dev/null

lock: $(DEV) ## Pin the newest versions of what requirements/*.in name
	@$(PY) -m pip install --quiet uv
	@for part in app libvirt build dev fuzz; do $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate requirements/$$part.in -o requirements/$$part.txt; done

clean: ## Forget what runs left here
	@rm -rf .run .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(PY):
	@echo "making $(VENV)"
	@mkdir -p $(CACHE)
	@python3 -m venv --clear $(VENV) 2>/dev/null || { tests/rigs/packages.sh $(CACHE) python3-venv && python3 -m venv --clear $(VENV); }

$(APP): | $(PY)
	@echo "installing what vmpower runs on"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/app.txt
	@touch $@

$(LIBVIRT): $(APP) | $(PY)
	@tests/rigs/packages.sh $(CACHE) $(BINDING)
	@echo "compiling the libvirt binding"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/libvirt.txt
	@touch $@

$(FUZZ): $(DEV) | $(PY)
	@echo "installing what finds inputs by coverage"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	@touch $@

$(DEV): $(APP) | $(PY)
	@echo "installing what the tests need"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@
