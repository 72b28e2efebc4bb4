SHELL := bash
.SHELLFLAGS := -e -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo live docs/live.gif docs/predictions.png test lint docs bench bench-gpu clean distclean

# The Python that .venv is made from, as in: make PYTHON=python3.12 demo
PYTHON ?= python3

# The part of the tests to run, as in: make test TESTS=test/core/systems. By default, all.
TESTS ?=

# The benchmarks to run, as in: make bench BENCHMARKS="engine soak". By default, all but the soaks.
BENCHMARKS ?=

# The demos and the tests stay on this machine, with a Fast DDS profile whose shared memory holds large images.
demo live test: export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
demo live test: export ROS_DOMAIN_ID ?= 83
demo live test: export FASTRTPS_DEFAULT_PROFILES_FILE ?= $(CURDIR)/config/fastdds.xml
demo live test: export FASTDDS_DEFAULT_PROFILES_FILE ?= $(CURDIR)/config/fastdds.xml
test: export OMP_NUM_THREADS ?= 1

help: ## List the targets
	@sed -nE 's/^([a-z./-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## Make .venv: ROS 2 (the sourced one, else Jazzy from PyPI), PyTorch and the rest
	@environment/check.sh --install $(PYTHON)
	@$(PYTHON) environment/install.py

build: setup ## Build the ROS 2 package into install/ (linked to the sources: edits need no build)
	@. .venv/ros-env.sh && PYTHONWARNINGS=ignore colcon build --merge-install --symlink-install

# Runs in install/: Python would import smvae_ros/ of this folder first, which lacks the built messages.
demo: build ## Replay the shipped recording to the fusion node; leaves demo/predictions.png and demo/summary.json
	@. .venv/ros-env.sh && cd install && python -m smvae_ros.demo --out "$(CURDIR)/demo"

live: build ## Watch the node while a simulated robot's sensors fail; leaves live/live.gif and live/live.mp4
	@environment/check.sh --drawing --install $(PYTHON)
	@. .venv/ros-env.sh && cd install && python -m smvae_ros.demo.live --out "$(CURDIR)/live"

docs/predictions.png: demo ## Make the picture of README anew
	@cp demo/predictions.png docs/predictions.png

docs/live.gif: live ## Make the animation of README anew
	@cp live/live.gif docs/live.gif

test: build ## Run every test; a part: make test TESTS=test/core
	@environment/check.sh --rendering --install $(PYTHON)
	@. .venv/ros-env.sh && environment/test.sh $(TESTS)

lint: setup ## Check format, style and types: ruff and mypy, as pyproject.toml sets them
	@. .venv/ros-env.sh && ruff check . && ruff format --check . && mypy

docs: setup ## Build the documentation into site/; a dead link or a broken reference fails
	@. .venv/ros-env.sh && NO_MKDOCS_2_WARNING=1 mkdocs build --strict

# From the sources, without ROS, a build or the network: with the Python of .venv, or another that has torch with CUDA.
bench-gpu: ## Check and measure on a GPU, about nine minutes; a part: make bench-gpu GPU="--device cuda:1 --part memory"
	@PYTHONPATH="$(CURDIR)" $(if $(wildcard .venv/bin/python),.venv/bin/python,$(PYTHON)) -m benchmarks.gpu $(GPU)

bench: build ## Run the benchmarks but the soaks, on a quiet machine, in under 40 minutes; writes benchmarks/RESULTS.md
	@. .venv/ros-env.sh && cd install && PYTHONPATH="$$PYTHONPATH:$(CURDIR)" python -m benchmarks.run $(BENCHMARKS)

clean: ## Remove what build, test, lint, docs and demo made
	@rm -rf build install log demo live site .pytest_cache .hypothesis .mypy_cache .ruff_cache

distclean: clean ## Remove .venv and .venv-peers too
	@rm -rf .venv .venv-peers
