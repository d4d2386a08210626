# The commands of this checkout; `make help` lists them.  Every setup step leaves
# a stamp in .venv/stamps, and runs again only when a file that it depends on changed.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.NOTPARALLEL:

# The Python for .venv; empty: the first Python 3.10 or newer that is found.
PYTHON ?=
# The Pythons for which `make wheels` compiles: make wheels PYTHONS="python3.11 python3.12".
PYTHONS ?= $(BIN)/python
# Extra arguments: make check ARGS="-k balancers -x", make bench ARGS="--help".
ARGS ?=

VENV := .venv
STAMPS := $(VENV)/stamps
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PACKAGING := setup.py pyproject.toml

TEST_PACKAGES := chromium curl etcd-server haproxy iproute2 jq libnginx-mod-http-lua libnss3-tools logrotate mariadb-server \
	nftables nginx openssl pebble prometheus redis-server rsyslog sqlite3 sslscan wrk zookeeper
# A machine that has another Docker keeps it: Debian's would take its place.
TEST_PACKAGES += $(if $(wildcard /usr/bin/dockerd /usr/sbin/dockerd /usr/local/bin/dockerd),,docker.io)
# Where Node came from elsewhere, it has brought npm with it.
TEST_PACKAGES += $(if $(shell command -v npm),,npm)
PACKAGING_PACKAGES := buildah debootstrap iproute2 lintian
SOAK_PACKAGES := nginx wrk
BENCH_PACKAGES := caddy curl haproxy iproute2 libnginx-mod-http-lua nftables nginx openssl wrk

.PHONY: help run check test test-deb test-image lint format wheels deb bench bench-balance bench-certificates bench-failover bench-health bench-hooks bench-stores fuzz soak docs screenshots clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMPS)/run ## start slardar with two demo backends; Ctrl-C ends all
	@scripts/demo $(BIN)

check: lint ## in a minute: `make lint`, and the tests without sockets and processes
	scripts/run_tests $(BIN)/python quick $(ARGS)

test: $(STAMPS)/test $(STAMPS)/test-packages $(STAMPS)/consul $(STAMPS)/axe $(STAMPS)/compiler ## in a quarter of an hour: set everything up, and pass all tests
	scripts/run_tests $(BIN)/python all $(ARGS)

screenshots: $(STAMPS)/test $(STAMPS)/test-packages $(STAMPS)/axe ## take the pictures of the dashboard in docs/ anew
	SLARDAR_SCREENSHOTS=docs $(BIN)/python -m pytest -q tests/integration/test_dashboard_pictures.py

lint: $(STAMPS)/lint $(STAMPS)/test ## style, formatting, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMPS)/lint ## rewrite the sources the way `make lint` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMPS)/bench $(STAMPS)/test $(STAMPS)/bench-packages $(STAMPS)/compiled ## measure against other proxies
	$(BIN)/python -m benchmarks $(ARGS)

bench-certificates: $(STAMPS)/bench $(STAMPS)/test ## measure ten thousand certificates
	$(BIN)/python -m benchmarks.certificates $(ARGS)

bench-failover: $(STAMPS)/bench $(STAMPS)/test $(STAMPS)/bench-packages $(STAMPS)/compiled ## break a server behind each proxy
	$(BIN)/python -m benchmarks.failover $(ARGS)

bench-health: $(STAMPS)/bench $(STAMPS)/test $(STAMPS)/bench-packages $(STAMPS)/compiled ## measure what health costs
	$(BIN)/python -m benchmarks.health
	$(BIN)/python -m benchmarks.heartbeats

bench-hooks: $(STAMPS)/bench $(STAMPS)/test $(STAMPS)/bench-packages $(STAMPS)/compiled ## measure what hooks cost
	$(BIN)/python -m benchmarks.hooks $(ARGS)

bench-stores: $(STAMPS)/bench $(STAMPS)/test $(STAMPS)/consul ## measure a store that nodes share
	$(BIN)/python -m benchmarks.stores $(ARGS)

bench-balance: $(STAMPS)/test $(STAMPS)/compiled ## measure and simulate balancers
	$(BIN)/python -m benchmarks.balance $(ARGS)

fuzz: $(STAMPS)/test $(STAMPS)/compiler ## in minutes: a million changed heads in Python and in C, and what is in C under sanitizers
	SLARDAR_HEADS=1000000 $(BIN)/python -m pytest -q tests/http1/test_native_heads.py $(ARGS)
	scripts/sanitize_native $(BIN)/python

soak: $(STAMPS)/test $(STAMPS)/soak-packages ## change and break it under load; fails if a request does
	$(BIN)/python -m benchmarks.soak $(ARGS)

wheels: $(STAMPS)/test $(STAMPS)/compiler ## build into dist/: the sources, a wheel for every Python, compiled ones for PYTHONS
	packaging/make_sdist dist $(BIN)/python
	SLARDAR_COMPILE=0 packaging/make_wheel dist $(BIN)/python
	for python in $(PYTHONS); do SLARDAR_COMPILE=1 packaging/make_wheel dist $(BIN)/python "$$python"; done
	@ls dist

deb: $(STAMPS)/venv ## build Debian's package into dist/, for the Python of this Debian
	scripts/install_compiler /usr/bin/python3
	packaging/make_deb dist $(BIN)/python

test-deb: deb $(STAMPS)/test $(STAMPS)/debian ## install, upgrade and purge the package in a clean Debian; needs root
	SLARDAR_TEST_DEB="$$(ls -t dist/slardar_*.deb | head -n 1)" SLARDAR_TEST_ROOT=$(VENV)/debian \
		$(BIN)/python -m pytest -q tests/packaging/test_deb.py $(ARGS)

test-image: $(STAMPS)/test $(STAMPS)/debian ## build the container's image without a registry, and run it; needs root
	SLARDAR_TEST_IMAGE=1 SLARDAR_TEST_ROOT=$(VENV)/debian \
		$(BIN)/python -m pytest -q tests/packaging/test_image.py $(ARGS)

docs: $(STAMPS)/docs ## build the documentation into site/
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs site
	@echo "open site/index.html"

clean: ## remove what these commands made
	rm -rf $(VENV) site build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache
	rm -rf .hypothesis .coverage twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(STAMPS)/venv: scripts/make_venv scripts/install_packages
	scripts/make_venv $(VENV) $(PYTHON)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/venv $(PACKAGING)
	$(INSTALL) --editable .
	@touch $@

$(STAMPS)/test $(STAMPS)/lint $(STAMPS)/docs $(STAMPS)/bench: $(STAMPS)/run
	$(INSTALL) --editable '.[$(@F)]'
	@touch $@

# This checkout as `pip install .` installs it, with the request path compiled.
$(STAMPS)/compiled: $(STAMPS)/test $(STAMPS)/compiler $(PACKAGING) $(shell find slardar -name '*.py' -o -name '*.pyx')
	rm -rf $(VENV)/compiled
	SLARDAR_COMPILE=1 $(INSTALL) --no-build-isolation --no-deps --target $(VENV)/compiled .
	@touch $@

$(STAMPS)/compiler: scripts/install_compiler scripts/install_packages | $(STAMPS)/venv
	scripts/install_compiler $(BIN)/python
	@touch $@

$(STAMPS)/test-packages: scripts/install_packages Makefile | $(STAMPS)/venv
	scripts/install_packages $(TEST_PACKAGES)
	@touch $@

$(STAMPS)/bench-packages: scripts/install_packages Makefile | $(STAMPS)/venv
	scripts/install_packages $(BENCH_PACKAGES)
	@touch $@

$(STAMPS)/soak-packages: scripts/install_packages Makefile | $(STAMPS)/venv
	scripts/install_packages $(SOAK_PACKAGES)
	@touch $@

$(STAMPS)/axe: scripts/fetch_axe $(STAMPS)/test-packages | $(STAMPS)/venv
	scripts/fetch_axe $(VENV)/axe
	@touch $@

$(STAMPS)/packaging-packages: scripts/install_packages Makefile | $(STAMPS)/venv
	scripts/install_packages $(PACKAGING_PACKAGES)
	@touch $@

$(STAMPS)/debian: packaging/debian_root $(STAMPS)/packaging-packages | $(STAMPS)/venv
	packaging/debian_root $(VENV)/debian
	@touch $@

# Without a stamp, the next make tries to get it again.
$(STAMPS)/consul: scripts/fetch_consul | $(STAMPS)/venv
	scripts/fetch_consul $(VENV)/consul
	@[ ! -x $(VENV)/consul/usr/bin/consul ] || touch $@
