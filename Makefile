# Set-up and the everyday commands; `make` alone lists them.
#
# Set-up has three parts, each done once: system packages (asked of dpkg each time), the Python environment (kept by a
# hash of setup.py and constraints.txt), the BPF programs (kept by bpf/Makefile's time stamps).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: kube-play scaler claims vm-test watch help setup setup-test packages packages-test ryu bpf run test fuzz check reference docs clean
.NOTPARALLEL:

VENV ?= .venv
PYTHON := $(VENV)/bin/python
IMAGE ?= localhost/testbed:latest
SCENARIO ?= scenarios/burst.yaml

# What a run needs of the distribution, and what the tests and checks need beside it.
RUN_PACKAGES := mininet openvswitch-switch clang llvm libbpf-dev bpftool ethtool iproute2 make python3-venv
TEST_PACKAGES := clang-format iputils-ping tcpreplay tshark

# Only training (and its tests) needs torch.  PyPI's build brings several GB of CUDA; this index has the CPU build.
# Where it cannot be reached, PyPI's is taken.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

PIP := $(PYTHON) -m pip --disable-pip-version-check
# An editable install by a path entry ("compat"), not by an import hook: the hook comes after the path, where a folder
# named `testbed` in the current directory would be found first.
INSTALL := $(PIP) install --quiet --no-build-isolation --config-settings editable_mode=compat -c constraints.txt
KEY := $(shell cat setup.py constraints.txt | sha256sum | cut -c1-16)
RUN_STAMP := $(VENV)/set-up-run-$(KEY)
RYU_STAMP := $(VENV)/set-up-ryu-$(KEY)
TEST_STAMP := $(VENV)/set-up-test-$(KEY)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: packages $(RUN_STAMP) bpf ## install everything a run needs (root; quick if installed already)

setup-test: packages-test $(TEST_STAMP) bpf ## also install what the tests and checks need

packages:
	@.ci/system-packages $(RUN_PACKAGES)

packages-test:
	@.ci/system-packages $(RUN_PACKAGES) $(TEST_PACKAGES)

# Mininet belongs to the distribution's Python, hence that one and its site-packages.
$(PYTHON): | packages
	/usr/bin/python3 -m venv --system-site-packages $(VENV)

$(RUN_STAMP): | $(PYTHON)
	$(PIP) install --quiet -c constraints.txt setuptools
	$(INSTALL) -e .
	@touch $@

ryu: packages $(RYU_STAMP) ## install Ryu, the other OpenFlow framework

scaler: $(RUN_STAMP) ## install what KEDA's external scaler needs (gRPC)
	$(INSTALL) -e '.[scaler]'

# Isolated, so that it is built with a setuptools of its own; pip passes PIP_CONSTRAINT on to that build, and no option.
$(RYU_STAMP): $(RUN_STAMP)
	@$(PYTHON) -c 'import ryu' 2>/dev/null || \
	    PIP_CONSTRAINT=$(CURDIR)/.ci/ryu-build-constraints.txt $(PIP) install --quiet --use-pep517 --no-deps ryu==4.34
	$(INSTALL) -e '.[ryu]'
	@touch $@

$(TEST_STAMP): $(RUN_STAMP) $(RYU_STAMP) | packages-test
	@$(PYTHON) -c 'import torch' 2>/dev/null || \
	    $(INSTALL) --no-deps --retries 1 --timeout 15 --index-url $(TORCH_INDEX) torch || \
	    echo 'set-up: no torch from $(TORCH_INDEX), taking the (large) one from PyPI'
	$(INSTALL) -e '.[dev]'
	@touch $@

bpf: packages ## compile the BPF programs
	@$(MAKE) --no-print-directory -C bpf

run: setup ## set up and run SCENARIO (scenarios/burst.yaml)
	$(PYTHON) -m testbed run $(SCENARIO)

# Two workers: one emulates, the other tests the rest (tests/parallel.py).
test: setup-test ## set up and run the whole test suite (PYTEST_ARGS=... adds options)
	$(PYTHON) -m pytest -n 2 $(PYTEST_ARGS)

watch: ## Prometheus with deploy/prometheus at 127.0.0.1:9090, for `run --metrics 127.0.0.1:9464` (end it with Ctrl-C)
	@command -v prometheus >/dev/null || { echo 'prometheus is not installed: apt-get install prometheus' >&2; exit 3; }
	prometheus --config.file=deploy/prometheus/prometheus.yml --storage.tsdb.path=runs/.prometheus \
	    --web.listen-address=127.0.0.1:9090 --log.level=warn

vm-test: setup ## runs on the distribution's own kernel under qemu: Open vSwitch in the kernel, netem (root)
	PYTHON=$(PYTHON) .ci/vm-test

kube-play: setup-test ## the pods of deploy/kubernetes under `podman kube play` (root; IMAGE=... made of the Containerfile)
	$(PYTHON) -m tests.kube_play $(IMAGE)

fuzz: setup-test ## damaged inputs for every reader, 100,000 of them (FUZZ_ARGS=... adds options; for the night)
	$(PYTHON) -m tests.fuzz $(FUZZ_ARGS)

check: setup-test ## ruff, mypy, clang-format and the architecture test
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	clang-format --dry-run -Werror bpf/*.c bpf/*.h
	$(PYTHON) -m pytest -q tests/test_architecture.py tests/test_reading_door.py

reference: ## write docs/reference from the declarations of records, metrics, checks, policies, families and faults
	$(PYTHON) -m testbed.records.reference > docs/reference/records.md
	$(PYTHON) -m testbed.results.metrics.reference > docs/reference/metrics.md
	$(PYTHON) -m testbed.openmetrics.reference > docs/reference/openmetrics.md
	$(PYTHON) -m testbed.openmetrics.dashboards deploy/grafana/dashboards
	$(PYTHON) -m testbed.results.fidelity.reference > docs/reference/checks.md
	$(PYTHON) -m testbed.scenario.reference > docs/reference/choices.md
	$(PYTHON) -m testbed.scenario.keys_reference > docs/reference/scenario.md
	$(PYTHON) -m testbed.commands.reference > docs/reference/commands.md
	.ci/notebook-page docs/notebook.ipynb > docs/howto/notebook.md

# Exit code 1 says that a claim is not as expected, which the page says, too.  What takes more than ten minutes is quick.
QUICK_CLAIMS := scenarios/claims/prediction-by-delay.yaml
FULL_CLAIMS := $(filter-out $(QUICK_CLAIMS),$(sort $(wildcard scenarios/claims/*.yaml)))
CLAIMS_RUNS ?= runs/claims-page

claims: setup ## test the shipped claims in the simulation and write docs/claims.md (half an hour)
	$(PYTHON) -m testbed claims $(FULL_CLAIMS) --engine simulation --out $(CLAIMS_RUNS)/full --quiet || [ $$? = 1 ]
	$(PYTHON) -m testbed claims $(QUICK_CLAIMS) --engine simulation --quick --out $(CLAIMS_RUNS)/quick --quiet || [ $$? = 1 ]
	.ci/claims-page $(CLAIMS_RUNS) > docs/claims.md

docs: setup-test reference ## build the documentation as a site, strictly, into site/
	$(PYTHON) -m mkdocs build --strict --quiet

clean: ## remove build products (not the environment, not the runs)
	$(MAKE) --no-print-directory -C bpf clean
	rm -rf build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find testbed controllers topologies tests -name __pycache__ -type d -prune -exec rm -rf {} +
