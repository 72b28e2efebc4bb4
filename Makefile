SHELL := bash
.SHELLFLAGS := -e -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo test bench clean distclean

# The Python that .venv is made from: make PYTHON=python3.12 demo
PYTHON ?= python3

# make bench BENCHMARKS="engine startup"; all of them where none is named.
BENCHMARKS ?=

# The demo and the tests keep to this machine, with shared memory that holds large images.
demo test: export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
demo test: export ROS_DOMAIN_ID ?= 83
demo test: export FASTRTPS_DEFAULT_PROFILES_FILE ?= $(CURDIR)/config/fastdds.xml
demo test: export FASTDDS_DEFAULT_PROFILES_FILE ?= $(CURDIR)/config/fastdds.xml
test: export OMP_NUM_THREADS ?= 1

help: ## List the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## Make .venv: ROS 2 (the sourced one, else Jazzy from PyPI), PyTorch and the rest
	@environment/check.sh $(PYTHON)
	@$(PYTHON) environment/install.py

build: setup ## Build the ROS 2 package into install/ (linked to the sources: edits need no build)
	@. .venv/ros-env.sh && PYTHONWARNINGS=ignore colcon build --merge-install --symlink-install

# Not from this folder, whose smvae_ros/ lacks the built messages and would be imported first.
demo: build ## Replay the shipped recording to the fusion node; leaves demo/predictions.png and demo/summary.json
	@. .venv/ros-env.sh && cd install && python -m smvae_ros.demo --out "$(CURDIR)/demo"

test: build ## Run every test; a part: make test TESTS=test/core
	@environment/check.sh --rendering $(PYTHON)
	@. .venv/ros-env.sh && pytest $(TESTS)

# Measures: on a quiet machine, or the figures are not worth keeping.
bench: build ## Run the benchmarks; each writes its section of benchmarks/RESULTS.md
	@. .venv/ros-env.sh && cd install && PYTHONPATH="$$PYTHONPATH:$(CURDIR)" python -m benchmarks.run $(BENCHMARKS)

clean: ## Remove what build, test and demo made
	@rm -rf build install log demo .pytest_cache .hypothesis

distclean: clean ## Remove .venv too
	@rm -rf .venv
