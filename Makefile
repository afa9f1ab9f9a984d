# Each target does all the set-up that it needs. `make help` lists them.
VENV := .venv/bin
# The distribution to try in `make fresh-machine`.
SUITE ?= trixie
# What `make bench` measures: scripts of benchmarks/ that end in harness.main().
BENCHMARKS ?= watching recording offline startup serving scaling fleet
# Tracing needs root. What runs under sudo leaves no root-owned caches in the checkout.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),$(if $(shell command -v sudo),sudo env PYTHONDONTWRITEBYTECODE=1))
TESTS = $(AS_ROOT) env KMWATCH_KERNELS="$${KMWATCH_KERNELS:-6.1,newest}"
NO_CACHE := $(if $(AS_ROOT),-p no:cacheprovider)

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo monitoring-demo test test-guest test-guest-all test-browser golden check bench bench-full soak docs pictures dashboards fresh-machine clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## packages and .venv/ with kmwatch in it; a second run takes seconds
	@scripts/setup.sh

setup-tests: ## the same, and what the tests need
	@scripts/setup.sh tests

demo: setup ## the live screen in a terminal, else a report of 5 seconds; of a bundled capture where tracing is forbidden
	@if ! $(AS_ROOT) $(VENV)/kmwatch doctor >/dev/null 2>&1; then \
		echo "This machine does not let kmwatch trace (kmwatch doctor tells why): here is a bundled capture instead."; \
		exec $(VENV)/kmwatch report "$$($(VENV)/kmwatch demo-data)"; \
	elif [ -t 0 ] && [ -t 1 ]; then exec $(AS_ROOT) $(VENV)/kmwatch top; \
	else exec $(AS_ROOT) $(VENV)/kmwatch report live -d 5; fi

monitoring-demo: setup ## the exporter and a real Prometheus on loopback, until Ctrl-C; what the dashboards ask and get
	@scripts/get_prometheus.sh >/dev/null
	@exec $(AS_ROOT) $(VENV)/python scripts/monitoring_demo.py

test: setup-tests ## every test that this machine allows; KMWATCH_REQUIRE=live,guest makes a skip a failure
	@$(TESTS) KMWATCH_REQUIRE="$$KMWATCH_REQUIRE" $(VENV)/python -m pytest $(NO_CACHE)

test-guest: setup-tests ## kmwatch in other kernels, under QEMU: KMWATCH_KERNELS=6.1,newest
	@$(TESTS) KMWATCH_REQUIRE=guest $(VENV)/python -m pytest tests/guest $(NO_CACHE)

test-guest-all: setup-tests ## the same in every kernel that there is, and docs/kernels.md from what came of it
	@$(TESTS) KMWATCH_REQUIRE=guest KMWATCH_KERNELS=all $(VENV)/python -m pytest tests/guest $(NO_CACHE)
	@$(VENV)/python -m tests.guest.table

test-browser: setup-tests ## pages in a real Chromium; pictures of them in .cache/browser/
	@$(TESTS) KMWATCH_REQUIRE=browser $(VENV)/python -m pytest tests/browser $(NO_CACHE)

golden: setup-tests ## record tests/data/golden anew, in guests: RULES='KM101 KM201' or all
	@$(AS_ROOT) $(VENV)/python -m tests.guest.golden $(RULES)

check: setup-tests ## style, types, and the tests that need no root: a minute or two
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/mypy
	@$(VENV)/python -m pytest -q tests/unit tests/test_*.py

bench: setup-tests ## what kmwatch costs and how fast it is, beside perf, bpftrace and others: BENCHMARKS=watching
	@for each in $(BENCHMARKS); do $(AS_ROOT) $(VENV)/python -m benchmarks.$$each || exit; done

bench-full: setup-tests ## the same with all rounds, results kept and docs/performance.md made of them: about an hour
	@for each in $(BENCHMARKS); do $(AS_ROOT) $(VENV)/python -m benchmarks.$$each --full --write || exit; done
	@$(VENV)/python scripts/generate_docs.py
	@$(VENV)/python scripts/plot_fleet.py

soak: setup-tests ## kmwatch serve for ten minutes under stress-ng: memory, CPU time, scrapes, losses
	@$(AS_ROOT) $(VENV)/python benchmarks/soak.py

fresh-machine: ## demo and test in a new Debian: SUITE=trixie or bookworm; KEEP=1 keeps it
	@scripts/fresh_machine.sh $(SUITE)

docs: setup ## write the generated pages and plots of docs/
	@$(VENV)/python scripts/generate_docs.py
	@$(VENV)/python scripts/plot_fleet.py

pictures: setup-tests ## make the pictures of README and docs anew, from real runs on this machine
	@$(AS_ROOT) $(VENV)/python scripts/screenshot.py
	@$(AS_ROOT) $(VENV)/python -m scripts.screenshot_page

dashboards: setup-tests ## write the Grafana dashboards
	@$(VENV)/python -m dashboards.build

clean: ## remove .venv/ and all caches
	rm -rf --one-file-system .venv .cache .mypy_cache .ruff_cache .pytest_cache build dist
	find kmwatch tests benchmarks dashboards scripts -name __pycache__ -type d -prune -exec rm -rf {} +
